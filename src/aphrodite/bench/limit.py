"""The limit: the least time that a device needs for a step, from the bytes and operations that the model asks of it.

The roofline model (doi 10.1145/1498765.1498785): a step takes at least its bytes over the memory's bandwidth, and at
least its operations over the rate of matrix products. Counted are the weights, read once a step, the keys and values
of every sequence's context, and the multiplications and additions of matrix products and attention.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.architectures.weight import Weight
from aphrodite.domain.architectures.weights import declare_weights
from aphrodite.domain.scheduling.step import RowPlan, StepPlan


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What a device was measured to do."""

    bytes_per_s: float
    operations_per_s: float


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step must read and compute."""

    num_bytes: int
    num_operations: int
    is_decode: bool  # one token a sequence, no picture

    def limit_s(self, rates: DeviceRates) -> float:
        """The least time for it on a device of these rates."""
        return max(self.num_bytes / rates.bytes_per_s, self.num_operations / rates.operations_per_s)


def total_limit_s(steps: Sequence[StepCost], rates: DeviceRates) -> float:
    """The least time for steps one after the other."""
    return sum(step.limit_s(rates) for step in steps)


class ModelCosts:
    """Bytes and operations of a model whose numbers take `bytes_per_number` each."""

    def __init__(self, model: ModelSpec, bytes_per_number: int) -> None:
        spec = model.decoder
        weights = declare_weights(model)
        decoding = [
            weight for weight in weights if weight.axes and weight.name not in ("embed.weight", "lm_head.weight")
        ]
        seeing = [weight for weight in weights if not weight.axes]
        head = spec.vocab_size * spec.hidden_size
        # Embeddings are looked up row by row; only as the head are they read whole.
        self.weight_bytes = (sum(weight.size for weight in decoding) + head) * bytes_per_number
        self.vision_bytes = sum(weight.size for weight in seeing) * bytes_per_number
        self.operations_per_token = 2 * sum(weight.size for weight in decoding if len(weight.shape) == 2)
        self.operations_per_sample = 2 * head
        self.operations_per_image = 0 if model.vision is None else _image_operations(model.vision, seeing)
        self._kv_bytes = 2 * spec.num_kv_heads * spec.head_dim * bytes_per_number  # of one token in one layer
        self._pair_operations = 4 * spec.num_heads * spec.head_dim  # of one query and one key in one layer
        self._windows = Counter(attention.window for attention in spec.attention)

    def step(self, plan: StepPlan) -> StepCost:
        """What a step of this plan costs."""
        num_images = sum(encoded.image.plan.num_segments for encoded in plan.encode)
        num_bytes = self.weight_bytes + (self.vision_bytes if num_images else 0)
        operations = plan.num_tokens * self.operations_per_token + num_images * self.operations_per_image
        operations += plan.num_samples * self.operations_per_sample
        for window, num_layers in self._windows.items():
            reach = window or math.inf
            # Keys and values of the row's own tokens were just made and need not be read back.
            num_bytes += num_layers * int(np.minimum(plan.decode.starts, reach).sum()) * self._kv_bytes
            operations += num_layers * int(np.minimum(plan.decode.starts + 1, reach).sum()) * self._pair_operations
            for row in plan.prompts:
                num_bytes += num_layers * int(min(row.start, reach)) * self._kv_bytes
                operations += num_layers * _num_pairs(row, reach) * self._pair_operations
        return StepCost(num_bytes, operations, not num_images and all(row.num_tokens == 1 for row in plan.prompts))


def _num_pairs(row: RowPlan, reach: float) -> int:
    """Query and key pairs under a causal mask: the token at position i attends to i + 1, or to `reach` at most."""
    first, last = row.start + 1, row.start + row.num_tokens
    growing_until = int(max(first - 1, min(last, reach)))
    growing = (first + growing_until) * (growing_until - first + 1) // 2
    return growing + (int((last - growing_until) * reach) if last > growing_until else 0)


def _image_operations(vision: VisionSpec, weights: Sequence[Weight]) -> int:
    """Of one segment of a picture, through the tower and the projector."""
    operations = 4 * vision.num_positions**2 * vision.hidden_size * vision.num_used_layers  # attention, all pairs
    for weight in weights:
        if weight.name == "vision.patch.weight":
            operations += 2 * weight.size * vision.num_patches
        elif weight.name.startswith("vision.layers.") and len(weight.shape) == 2:
            operations += 2 * weight.size * vision.num_positions
        elif weight.name.startswith("projector.") and len(weight.shape) == 2:
            operations += 2 * weight.size * vision.num_image_tokens
    return operations

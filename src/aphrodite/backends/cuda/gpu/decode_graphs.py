"""Steps of one token a row under CUDA graphs.

Letters: T tokens, R rows, B blocks a row, S samples, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.gpu.graphs import Capture, SizedGraphs
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import FlatStep, flatten
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from aphrodite.domain.scheduling.step_arrays import StepArrays, StepShape, num_words, unpack

Forward = Callable[[FlatStep, StepArrays[Tensor]], Tensor]
"""A step's tokens to the logits [S, V] of its samples."""

Draw = Callable[[Tensor, StepArrays[Tensor]], Tensor]
"""Logits [S, V] to sampled tokens [S], which their slots keep."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a step has come to; of a graph it stays until the next one runs."""

    arrays: StepArrays[Tensor]  # the step's fields
    logits: Tensor  # float32 [S, V]
    tokens: Tensor | None  # int64 [S] where drawn already, from the logits as they are: without penalties and biases


class DecodeGraphs:
    """Padded to a number of rows and the longest block table, a step's graph depends on its number of rows alone.

    What a graph reads lies where it lay when it was captured: the step's numbers are copied there on the device. The
    copy waits its turn behind the step before, so that steps in flight do not disturb each other.
    """

    def __init__(
        self, limits: BackendLimits, vocab_size: int, forward: Forward, draw: Draw, device: torch.device
    ) -> None:
        self._forward = forward
        self._draw = draw
        self._block_size = limits.block_size
        self._num_blocks = -(-limits.max_model_len // limits.block_size)
        sizes = _sizes(min(limits.max_num_seqs, limits.max_num_batched_tokens))
        self._graphs = SizedGraphs(sizes, self._run)
        self._numbers = torch.zeros(num_words(self._shape(sizes[-1])), dtype=torch.int32, device=device)
        self._logits = torch.empty(sizes[-1], vocab_size, dtype=torch.float32, device=device)  # [S, V]
        self._tokens = torch.empty(sizes[-1], dtype=torch.int64, device=device)  # [S]
        self._decoded: dict[StepShape, Decoded] = {}

    def capture(self, capture: Capture) -> None:
        """Record every size."""
        self._graphs.capture(capture, "Capturing decode steps")

    def shape(self, plan: StepPlan) -> StepShape | None:
        """The padded sizes of a step that a graph can run; None for any other."""
        is_decode = all(
            row.num_tokens == 1 and row.feature_rows is None and row.prompt_targets is None for row in plan.prompts
        )
        size = self._graphs.fit(plan.num_rows) if is_decode else None
        return None if size is None else self._shape(size)

    def run(self, shape: StepShape, numbers: Tensor) -> Decoded:
        """Run a step of this shape, whose numbers are int32 [words]."""
        self._numbers[: len(numbers)].copy_(numbers)
        self._graphs.run(shape.num_rows)
        return self._decoded[shape]

    def _run(self, size: int) -> None:
        shape = self._shape(size)
        arrays: StepArrays[Tensor] = unpack(self._numbers[: num_words(shape)], shape, torch.float32)
        logits = self._logits[:size].copy_(self._forward(_example(shape, self._block_size), arrays))
        tokens = self._tokens[:size].copy_(self._draw(logits, arrays))
        self._decoded[shape] = Decoded(arrays, logits, tokens)

    def _shape(self, size: int) -> StepShape:
        return StepShape(size, size, self._num_blocks, size)


def _sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4, 8, and from there the multiples of 16, which are what matrix units work in."""
    return (*(size for size in (1, 2, 4, 8) if size < largest), *range(16, largest, 16), largest)


def _example(shape: StepShape, block_size: int) -> FlatStep:
    """A step of this shape. Of its numbers none but the shape goes into a graph."""
    row = RowPlan(-1, 0, 1, None, np.zeros(1, np.int32), True, SamplingParams(), 0)
    return flatten(StepPlan.of([row]), block_size, lambda _: shape)

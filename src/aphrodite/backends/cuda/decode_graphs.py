"""Steps of one token a row under CUDA graphs.

Letters: T tokens, R rows, B blocks a row, S samples, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.graphs import Capture, SizedGraphs
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import FlatStep, StepShape, flatten, layout, unpack
from aphrodite.domain.scheduling.step import RowPlan, StepPlan

Forward = Callable[[FlatStep, dict[str, Tensor]], Tensor]
"""A step's tokens to the logits [S, V] of its samples."""


class DecodeGraphs:
    """Padded to a number of rows and the longest block table, a step's graph depends on its number of rows alone.

    What a graph reads lies where it lay when it was captured: the step's numbers are copied there on the device. The
    copy waits its turn behind the step before, so that steps in flight do not disturb each other.
    """

    def __init__(self, limits: BackendLimits, vocab_size: int, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._block_size = limits.block_size
        self._num_blocks = -(-limits.max_model_len // limits.block_size)
        sizes = _sizes(min(limits.max_num_seqs, limits.max_num_batched_tokens))
        self._graphs = SizedGraphs(sizes, self._run)
        self._numbers = torch.zeros(layout(self._shape(sizes[-1]))[1], dtype=torch.int32, device=device)
        self._arrays: dict[StepShape, dict[str, Tensor]] = {}  # the fields of `_numbers`
        self._logits = torch.empty(sizes[-1], vocab_size, dtype=torch.float32, device=device)  # [S, V]

    def capture(self, capture: Capture) -> None:
        """Record every size."""
        self._graphs.capture(capture, "Capturing decode steps")

    def shape(self, plan: StepPlan) -> StepShape | None:
        """The padded sizes of a step that a graph can run; None for any other."""
        is_decode = all(
            row.num_tokens == 1
            and row.features is None
            and row.prompt_targets is None
            and len(row.block_ids) <= self._num_blocks
            for row in plan.rows
        )
        size = self._graphs.fit(len(plan.rows)) if is_decode else None
        return None if size is None else self._shape(size)

    def run(self, shape: StepShape, numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits [S, V] of a step of this shape, whose numbers are int32 [words], and the fields of these numbers.

        Both stay until the next call.
        """
        self._numbers[: len(numbers)].copy_(numbers)
        return self._graphs.run(shape.num_rows), self._arrays[shape]

    def _run(self, size: int) -> Tensor:
        shape = self._shape(size)
        self._arrays[shape] = unpack(self._numbers[: layout(shape)[1]], shape, torch.float32)
        logits = self._forward(_example(shape, self._block_size), self._arrays[shape])
        return self._logits[:size].copy_(logits)

    def _shape(self, size: int) -> StepShape:
        return StepShape(size, size, self._num_blocks, size)


def _sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4, 8, and from there the multiples of 16, which are what matrix units work in."""
    return (*(size for size in (1, 2, 4, 8) if size < largest), *range(16, largest, 16), largest)


def _example(shape: StepShape, block_size: int) -> FlatStep:
    """A step of this shape. Of its numbers none but the shape goes into a graph."""
    row = RowPlan(-1, 0, 1, np.zeros(1, np.int32), np.zeros(1, np.int32), True, SamplingParams(), 0)
    return flatten(StepPlan((row,)), block_size, lambda _: shape)

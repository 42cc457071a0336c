"""Steps that make every kernel known before the first request."""

from collections.abc import Iterator

import numpy as np

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import RowPlan, StepPlan


def warm_up_plans(limits: BackendLimits) -> Iterator[StepPlan]:
    """Prompts in every number of rows that a kernel is compiled for, up to the most tokens of a step.

    They leave nothing behind: their blocks are all block 0 and their slots are the last, both of which are padding's.
    """
    most_rows = max(1, min(limits.max_num_seqs, limits.max_num_batched_tokens // 2))
    num_tokens = min(limits.max_num_batched_tokens // most_rows, limits.max_model_len)
    num_rows = 1
    while num_rows <= most_rows:
        yield StepPlan((_prompt(num_tokens, limits.block_size),) * num_rows)
        num_rows = most_rows if num_rows < most_rows < 2 * num_rows else 2 * num_rows


def _prompt(num_tokens: int, block_size: int) -> RowPlan:
    return RowPlan(
        slot=-1,
        start=0,
        num_tokens=num_tokens,
        token_ids=np.zeros(num_tokens, np.int32),
        block_ids=np.zeros(-(-num_tokens // block_size), np.int32),
        samples=True,
        sampling=SamplingParams(),
        seed=0,
    )

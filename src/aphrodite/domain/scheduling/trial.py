"""Prompts that only show what a step takes."""

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import RowPlan


def trial_row(num_tokens: int, block_size: int) -> RowPlan:
    """A prompt that leaves nothing behind: its blocks are all block 0 and its slot is the last, which are padding's."""
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

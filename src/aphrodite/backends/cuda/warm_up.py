"""Steps that make every kernel known before the first request, and show how much memory the largest need."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import RowPlan, SlotStart, StepPlan
from aphrodite.domain.scheduling.trial import trial_row

_EVERYTHING = SamplingParams(
    presence_penalty=0.1,
    logit_bias={0: 0.0},
    logprobs=1,
    prompt_logprobs=1,
    temperature=0.9,
    nsigma=9,
    tfs=0.9,
    skew=0.1,
)


def warm_up_plans(limits: BackendLimits, *, sees_forward: bool = False) -> Iterator[StepPlan]:
    """Prompts in every number of rows that a kernel is compiled for, up to the most tokens of a step.

    Of these the rows of the last two, most samples and longest prompts, ask for everything. Of a model whose tokens see
    forward the first come once more, as kernels have another form for that.
    """
    most_rows = max(1, min(limits.max_num_seqs, limits.max_num_batched_tokens // 2))
    num_tokens = min(limits.max_num_batched_tokens // most_rows, limits.max_model_len)
    row, num_rows = trial_row(num_tokens, limits.block_size), 1
    forward = [replace(row, visible_until=np.zeros(num_tokens, np.int32))] if sees_forward else []
    while num_rows < most_rows:
        yield StepPlan.of([row] * num_rows)
        num_rows *= 2
    for each in forward:
        yield from (StepPlan.of([each] * min(2**power, most_rows)) for power in range((most_rows - 1).bit_length() + 1))
    sampled, tokens = _row_of_everything(num_tokens, limits), np.zeros(num_tokens, np.int32)
    first = replace(sampled, slot_start=SlotStart(tokens, tokens[:0]))
    yield StepPlan.of([first, *[sampled] * (most_rows - 1)])
    longest = min(limits.max_num_batched_tokens, limits.max_model_len)
    num_rows = min(limits.max_num_batched_tokens // longest, limits.max_num_seqs)
    reported = replace(_row_of_everything(longest, limits), prompt_targets=np.zeros(longest - 1, np.int32))
    yield StepPlan.of([reported] * num_rows)


def _row_of_everything(num_tokens: int, limits: BackendLimits) -> RowPlan:
    feature_rows = np.zeros(num_tokens, np.int32) if limits.num_feature_rows else None
    return replace(trial_row(num_tokens, limits.block_size), sampling=_EVERYTHING, feature_rows=feature_rows)

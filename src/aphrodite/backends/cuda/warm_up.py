"""Steps that make every kernel known before the first request."""

from collections.abc import Iterator

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.trial import trial_row


def warm_up_plans(limits: BackendLimits) -> Iterator[StepPlan]:
    """Prompts in every number of rows that a kernel is compiled for, up to the most tokens of a step."""
    most_rows = max(1, min(limits.max_num_seqs, limits.max_num_batched_tokens // 2))
    num_tokens = min(limits.max_num_batched_tokens // most_rows, limits.max_model_len)
    num_rows = 1
    while num_rows <= most_rows:
        yield StepPlan.of([trial_row(num_tokens, limits.block_size)] * num_rows)
        num_rows = most_rows if num_rows < most_rows < 2 * num_rows else 2 * num_rows

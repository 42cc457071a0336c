"""What one step adds to one completion, in tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.step import StepResult, TokenLogprobs
from aphrodite.domain.scheduling.step_builder import Schedule

FinishReason = Literal["stop", "length", "abort"]

RankedLogprobs = Mapping[int, tuple[float, int]]
"""Token id -> its log-probability and its rank (1: the most likely). The token that stands there comes first."""


@dataclass(frozen=True, slots=True)
class TokenReport:
    """The log-probabilities that a step reports of one sequence."""

    token: RankedLogprobs | None  # of the sampled token
    prompt_start: int = 0  # position of the first prompt token that is reported
    prompt: tuple[RankedLogprobs, ...] = ()


class SequenceDelta(msgspec.Struct, gc=False, omit_defaults=True):  # one a token: made in a tenth of a dataclass's time
    """New tokens of completion `index` of a request; the last one has a finish reason or an error."""

    request_id: str
    index: int
    token_ids: list[int]
    report: TokenReport | None = None
    num_cached_tokens: int = 0
    first_scheduled_s: float | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: AphroditeError | None = None


def collect_reports(schedule: Schedule, result: StepResult) -> dict[Request, TokenReport]:
    """The log-probabilities of a step, for each request that asked for them."""
    tokens: dict[Request, RankedLogprobs] = {}
    if result.logprobs is not None:
        for sample, request in enumerate(schedule.sampling):
            if (num_candidates := request.sampling.logprobs) is not None:
                tokens[request] = _ranked(result.logprobs, sample, int(result.token_ids[sample]), num_candidates)
    reports = {request: TokenReport(token) for request, token in tokens.items()}
    for index, found in result.prompt_logprobs.items():
        row, request = schedule.plan.prompts[index], schedule.prompting[index]
        targets = [] if row.prompt_targets is None else row.prompt_targets.tolist()
        num_candidates = row.sampling.prompt_logprobs or 0
        prompt = tuple(_ranked(found, i, target, num_candidates) for i, target in enumerate(targets))
        reports[request] = TokenReport(tokens.get(request), row.start + 1, prompt)
    return reports


def _ranked(logprobs: TokenLogprobs, index: int, token_id: int, num_candidates: int) -> RankedLogprobs:
    ranked = {token_id: (float(logprobs.chosen[index]), int(logprobs.chosen_ranks[index]))}
    best_ids = logprobs.top_token_ids[index, :num_candidates].tolist()
    best_values = logprobs.top_logprobs[index, :num_candidates].tolist()
    for rank, (candidate, value) in enumerate(zip(best_ids, best_values, strict=True), start=1):
        ranked.setdefault(candidate, (value, rank))
    return ranked

"""A step that was launched, on its way to the host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import jax
import numpy as np
from jax import Array

from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens
from aphrodite.domain.scheduling.bias import BiasChanges
from aphrodite.domain.scheduling.step import StepPlan, StepResult, TokenLogprobs


@dataclass(frozen=True, slots=True)
class PromptReport:
    """A row's share of the prompt's log-probabilities: [first, first + count) of all that the step reports."""

    row: int
    first: int
    count: int
    num_candidates: int


def prompt_reports(plan: StepPlan, prompt_starts: list[int]) -> tuple[list[int], list[int], list[PromptReport]]:
    """For every row that asks, tokens of the step whose successors are known, the successors, and whose they are."""
    tokens: list[int] = []
    targets: list[int] = []
    reports = []
    for index, (row, first) in enumerate(zip(plan.prompts, prompt_starts, strict=True)):
        wanted = row.sampling.prompt_logprobs
        if row.prompt_targets is not None and wanted is not None:
            count = len(row.prompt_targets)
            reports.append(PromptReport(index, len(tokens), count, wanted))
            tokens += range(first, first + count)
            targets += row.prompt_targets.tolist()
    return tokens, targets, reports


class DevicePendingStep:
    """Copies to the host as soon as the step is done, without holding up the launch of the next."""

    def __init__(
        self,
        packed: Array | None,
        num_samples: int,
        num_candidates: int,
        has_stages: bool,
        prompt_packed: list[Array],
        prompt_reports: list[PromptReport],
        fail: Callable[[Exception], NoReturn],
    ) -> None:
        self._packed = packed  # int32 [S, 3 + 2K + 1], see `pack`; last Mirostat's bounds
        self._has_stages = has_stages
        self._num_samples = num_samples
        self._num_candidates = num_candidates
        self._prompt_packed = prompt_packed
        self._prompt_reports = prompt_reports
        self._fail = fail
        for array in [*prompt_packed, *([] if packed is None else [packed])]:
            array.copy_to_host_async()

    def result(self) -> StepResult:
        try:
            packed = np.empty((0, 4), np.int32) if self._packed is None else np.asarray(self._packed)
            prompt = [np.asarray(array) for array in self._prompt_packed]
        except jax.errors.JaxRuntimeError as error:
            self._fail(error)
        packed = packed[: self._num_samples]
        joined = np.concatenate(prompt) if prompt else np.empty((0, 3), np.int32)
        return StepResult(
            token_ids=packed[:, 0],
            logprobs=_unpack(packed[:, :-1], self._num_candidates) if self._num_candidates >= 0 else None,
            prompt_logprobs={
                report.row: _unpack(joined[report.first : report.first + report.count], report.num_candidates)
                for report in self._prompt_reports
            },
            mirostat_bounds=np.ascontiguousarray(packed[:, -1]).view(np.float32) if self._has_stages else None,
        )


class DeviceHeldStep:
    """A step whose hidden states are under way."""

    def __init__(self, draw: Callable[[AllowedTokens, BiasChanges], DevicePendingStep]) -> None:
        self._draw = draw

    def draw(self, allowed: AllowedTokens, changes: BiasChanges) -> DevicePendingStep:
        return self._draw(allowed, changes)


def pack(tokens: Array, logprobs: tuple[Array, Array, Array, Array]) -> Array:
    """All that a step reports as one array, so that one copy brings it to the host; floats lie in it bit by bit.

    int32 [n, 3 + 2K]: token, its log-probability, its rank, K best token ids, their log-probabilities.
    """
    chosen, ranks, token_ids, values = logprobs
    as_integers = [tokens[:, None], chosen[:, None].view(np.int32), ranks[:, None], token_ids, values.view(np.int32)]
    return jax.numpy.concatenate(as_integers, axis=1)


def _unpack(packed: np.ndarray, num_candidates: int) -> TokenLogprobs:
    count = (packed.shape[1] - 3) // 2
    wanted = min(num_candidates, count)
    return TokenLogprobs(
        np.ascontiguousarray(packed[:, 1]).view(np.float32),
        packed[:, 2],
        packed[:, 3 : 3 + wanted],
        np.ascontiguousarray(packed[:, 3 + count : 3 + count + wanted]).view(np.float32),
    )

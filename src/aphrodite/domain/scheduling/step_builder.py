"""Collects the rows of one step."""

from dataclasses import dataclass

import numpy as np

from aphrodite.domain.architectures.images.image import ImageInput
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.slot_table import SlotTable
from aphrodite.domain.scheduling.step import ImageToEncode, RowPlan, SlotStart, StepPlan


@dataclass(frozen=True, slots=True)
class Schedule:
    """A plan, and the request behind each of its rows."""

    plan: StepPlan
    decoding: tuple[Request, ...]
    prompting: tuple[Request, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        return self.decoding + self.prompting

    @property
    def sampling(self) -> tuple[Request, ...]:
        """In the order of the samples."""
        rows = zip(self.plan.prompts, self.prompting, strict=True)
        return self.decoding + tuple(request for row, request in rows if row.samples)


class StepBuilder:
    """Rows are added until the token budget is spent."""

    def __init__(self, budget: int, slots: SlotTable) -> None:
        self.budget = budget  # tokens left
        self._slots = slots
        self._decoding: list[Request] = []
        self._singles: list[tuple[RowPlan, Request]] = []  # other rows of one token
        self._chunks: list[tuple[RowPlan, Request]] = []
        self._encode: list[ImageToEncode] = []

    @property
    def is_empty(self) -> bool:
        return not self._decoding and not self._singles and not self._chunks

    def encode(self, image: ImageInput, rows: np.ndarray) -> None:
        self._encode.append(ImageToEncode(image, rows))

    def add_decode(self, request: Request) -> None:
        """Plan the token that the request's slot has sampled, and book it as computed."""
        self._decoding.append(request)
        self.budget -= 1
        request.num_computed += 1
        request.num_in_flight += 1
        request.num_rows_in_flight += 1

    def add(self, request: Request, num_tokens: int, feature_rows: np.ndarray | None) -> None:
        """Plan the next `num_tokens` tokens that the host knows of a request, and book them as computed."""
        row = _plan_row(request, num_tokens, feature_rows)
        (self._singles if num_tokens == 1 else self._chunks).append((row, request))
        self.budget -= num_tokens
        request.num_computed += num_tokens
        request.num_in_flight += row.samples
        request.num_rows_in_flight += 1

    def build(self) -> Schedule:
        pairs = self._singles + self._chunks
        decode = self._slots.decode_rows(self._decoding)
        plan = StepPlan(decode, tuple(row for row, _ in pairs), tuple(self._encode))
        return Schedule(plan, tuple(self._decoding), tuple(request for _, request in pairs))


def _plan_row(request: Request, num_tokens: int, feature_rows: np.ndarray | None) -> RowPlan:
    sampling = request.sampling
    start, stop = request.num_computed, request.num_computed + num_tokens
    samples = stop == request.num_tokens
    slot_start = None
    if samples:
        request.slot_started = True
        if sampling.has_penalties or sampling.has_bias or sampling.has_mirostat:
            prompt = request.tokens[: request.num_prompt_tokens]
            slot_start = SlotStart(prompt, request.output_token_ids, request.mirostat_bound)
    early = samples and stop - request.num_prompt_tokens < sampling.min_tokens
    return RowPlan(
        slot=request.slot,
        start=start,
        num_tokens=num_tokens,
        token_ids=request.tokens[start:stop],
        block_ids=request.block_ids[: request.num_blocks],
        samples=samples,
        sampling=sampling,
        seed=request.seed,
        suppressed_token_ids=request.suppressed_token_ids if early else (),
        slot_start=slot_start,
        feature_rows=feature_rows,
        rope_positions=_rope_positions(request, start, stop),
        visible_until=_visible_until(request, start, stop),
        prompt_targets=_prompt_targets(request, start, stop),
    )


def _rope_positions(request: Request, start: int, stop: int) -> np.ndarray | None:
    if request.rope_positions is None:
        return None
    of_prompt = request.rope_positions[:, start:stop]
    of_output = np.arange(max(start, request.num_prompt_tokens), stop, dtype=np.int32) + request.rope_offset
    return np.concatenate((of_prompt, np.tile(of_output, (3, 1))), axis=1)


def _visible_until(request: Request, start: int, stop: int) -> np.ndarray | None:
    """For tokens [start, stop), where some among them see each other."""
    until: np.ndarray | None = None
    if request.is_prefix_masked and start < request.num_prompt_tokens:
        until = np.zeros(stop - start, np.int32)
        until[: request.num_prompt_tokens - start] = request.num_prompt_tokens
    for span in request.images:
        first, last = max(start, span.start), min(stop, span.stop)
        if span.sees_forward and first < last:
            if until is None:
                until = np.zeros(stop - start, np.int32)
            until[first - start : last - start] = span.visible_until()[first - span.start : last - span.start]
    return until


def _prompt_targets(request: Request, start: int, stop: int) -> np.ndarray | None:
    """The prompt tokens that follow those of the row; the prompt's last token is followed by a sampled one."""
    if request.sampling.prompt_logprobs is None or start >= request.num_prompt_tokens - 1:
        return None
    return request.tokens[start + 1 : min(stop + 1, request.num_prompt_tokens)]

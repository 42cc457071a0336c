"""The engine: drives scheduler and backend, token by token; text is none of its business."""

from collections import deque
from dataclasses import dataclass, field

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.errors import (
    AphroditeError,
    CacheLostError,
    EngineClosedError,
    SamplingParamsError,
    StepError,
)
from aphrodite.domain.generation.delta import SequenceDelta, collect_reports
from aphrodite.domain.generation.stopping import StopChecker
from aphrodite.domain.ports import BackendDescription, BackendLimits, Clock, ComputeBackend, PendingStep
from aphrodite.domain.prompting.prompt_length import check_num_tokens, check_whole_images, check_whole_prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import NOBODY, Owner, Request
from aphrodite.domain.scheduling.scheduler import Scheduler
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.step_builder import Schedule
from aphrodite.domain.scheduling.trial import trial_row

_MEASURED_TOKENS = 256


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One prompt to be answered `sampling.n` times."""

    request_id: str
    prompt_token_ids: list[int]  # the images expanded
    sampling: SamplingParams
    images: tuple[ImageSpan, ...] = ()  # in the order of their tokens
    owner: Owner = NOBODY  # whose turn it takes


@dataclass(slots=True, eq=False)
class _Sequence:
    """One of a prompt's completions while the engine works on it."""

    request: Request
    group: "_Group"
    index: int
    stop: StopChecker
    first_scheduled_s: float | None = None

    @property
    def request_id(self) -> str:
        return self.group.request_id


@dataclass(slots=True, eq=False)
class _Group:
    """A prompt and its completions."""

    request_id: str
    sequences: list[_Sequence] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step on its way."""

    schedule: Schedule
    pending: PendingStep
    launched_s: float


class Engine:
    """Continuous batching over one backend.

    `add` requests, call `step` until `has_unfinished` is False, and collect the deltas. Every request ends: with a
    finish reason, with a typed error in its last delta, or because it was aborted.
    """

    def __init__(
        self,
        backend: ComputeBackend,
        clock: Clock,
        *,
        eos_token_ids: frozenset[int],
        vocab_size: int,
        seed: int,
        enable_prefix_caching: bool,
        is_prefix_masked: bool = False,
    ) -> None:
        self.scheduler = Scheduler(backend.limits, enable_prefix_caching)
        self._backend = backend
        self._clock = clock
        self._eos_token_ids = eos_token_ids
        self._vocab_size = vocab_size
        self._seed = seed
        self._enable_prefix_caching = enable_prefix_caching
        self._is_prefix_masked = is_prefix_masked  # whether prompts' tokens see each other, those behind them as well
        self._num_added = 0
        self._groups: dict[str, _Group] = {}
        self._sequences: dict[Request, _Sequence] = {}
        self._in_flight: deque[_Flight] = deque()
        self._last_result_s = 0.0
        self._num_prefix_cache_queries = 0
        self._num_prefix_cache_hits = 0
        self._closed = False

    @property
    def limits(self) -> BackendLimits:
        return self._backend.limits

    @property
    def description(self) -> BackendDescription:
        return self._backend.description

    @property
    def has_unfinished(self) -> bool:
        return bool(self._groups)

    def check(self, request: EngineRequest) -> None:
        """Raises PromptTooLongError or SamplingParamsError for a request that `add` would not take."""
        num_image_tokens = sum(span.num_tokens for span in request.images)
        check_num_tokens(len(request.prompt_token_ids), self._backend.limits.max_model_len, num_image_tokens)
        check_whole_images(request.images, self._backend.limits.max_num_batched_tokens)
        if self._is_prefix_masked:
            check_whole_prompt(len(request.prompt_token_ids), self._backend.limits.max_num_batched_tokens)
        request.sampling.check_vocabulary(self._vocab_size)
        if request.sampling.structured_outputs is not None:
            raise SamplingParamsError("structured_outputs is not followed yet; leave it out.")

    def add(self, request: EngineRequest) -> None:
        """Take a request. Raises as `check` does, and EngineClosedError."""
        if self._closed:
            raise EngineClosedError("The engine is closed; build a new one to ask more.")
        self.check(request)
        group = _Group(request.request_id)
        for index in range(request.sampling.n):
            sequence = self._sequence(group, request, index)
            group.sequences.append(sequence)
            self.scheduler.add(sequence.request)
        self._groups[request.request_id] = group
        self._num_added += 1

    def abort(self, request_id: str) -> None:
        """End a request with all its completions; it gives no more deltas. Unknown ids were finished already."""
        group = self._groups.get(request_id)
        for sequence in list(group.sequences) if group else ():
            self._end(sequence)

    def abort_sequence(self, request_id: str, index: int) -> None:
        """End one completion of a request, whose text holds a stop string, say."""
        group = self._groups.get(request_id)
        for sequence in list(group.sequences) if group else ():
            if sequence.index == index:
                self._end(sequence)

    def step(self) -> list[SequenceDelta]:
        """Plan a step, launch it, and commit the oldest one in flight when the device has enough to do."""
        schedule = self.scheduler.schedule()
        if schedule is not None:
            failed = self._launch(schedule)
            if failed:
                return failed
        if self._in_flight and (schedule is None or len(self._in_flight) >= self._backend.limits.max_steps_in_flight):
            return self._commit(self._in_flight.popleft())
        return []

    def time_longest_step(self) -> float:
        """Seconds that a step of the most tokens takes, as far as one of at most a few hundred tells.

        To be asked before the first `add`. Raises StepError or DeviceLostError.
        """
        limits = self._backend.limits
        num_tokens = min(_MEASURED_TOKENS, limits.max_num_batched_tokens, limits.max_model_len)
        started_s = self._clock.now_s()
        self._backend.launch(StepPlan.of([trial_row(num_tokens, limits.block_size)])).result()
        duration_s = self._clock.now_s() - started_s
        self.scheduler.step_size.note(num_tokens, duration_s)
        return duration_s * limits.max_num_batched_tokens / num_tokens

    def stats(self) -> EngineStats:
        """How the engine is now; cheap enough for every step."""
        scheduler = self.scheduler
        pool, features = scheduler.pool, scheduler.encoder_cache
        return EngineStats(
            num_running=scheduler.num_running,
            num_waiting=len(self._sequences) - scheduler.num_running,
            kv_cache_usage=pool.num_used / max(1, pool.num_blocks - 1),
            encoder_cache_usage=features.num_used / max(1, features.num_rows),
            num_prefix_cache_queries=self._num_prefix_cache_queries,
            num_prefix_cache_hits=self._num_prefix_cache_hits,
            num_preemptions=scheduler.num_preemptions,
            num_images_encoded=features.num_encoded,
        )

    def close(self) -> None:
        """Abort what runs and give the device's memory back."""
        if not self._closed:
            self._closed = True
            for request_id in list(self._groups):
                self.abort(request_id)
            self._backend.close()

    def _launch(self, schedule: Schedule) -> list[SequenceDelta]:
        now_s = self._clock.now_s()
        for request in schedule.prompting:  # who decodes was there before
            sequence = self._sequences[request]
            if sequence.first_scheduled_s is None:
                sequence.first_scheduled_s = now_s
                self._note_prefix_lookup(request)
        try:
            self._in_flight.append(_Flight(schedule, self._backend.launch(schedule.plan), now_s))
        except StepError as error:
            return self._fail(schedule, error)
        except BaseException:  # Ctrl-C, say: the books must not list pictures that the device never encoded
            self.scheduler.fail(schedule)
            raise
        return []

    def _note_prefix_lookup(self, request: Request) -> None:
        if self._enable_prefix_caching and request.sampling.prompt_logprobs is None:
            self._num_prefix_cache_queries += request.num_prompt_tokens
            self._num_prefix_cache_hits += request.num_cached_tokens

    def _commit(self, flight: _Flight) -> list[SequenceDelta]:
        schedule = flight.schedule
        try:
            result = flight.pending.result()
        except StepError as error:
            return self._fail(schedule, error)
        began_s, self._last_result_s = max(flight.launched_s, self._last_result_s), self._clock.now_s()
        self.scheduler.step_size.note(schedule.plan.num_tokens, self._last_result_s - began_s)
        reports = collect_reports(schedule, result)
        deltas = []
        for request, token_id in self.scheduler.commit(schedule, result):
            sequence = self._sequences[request]
            delta = SequenceDelta(
                sequence.group.request_id,
                sequence.index,
                [token_id],
                reports.pop(request, None) if reports else None,
                request.num_cached_tokens,
                sequence.first_scheduled_s,
            )
            deltas.append(delta)
            verdict = sequence.stop.check_token(token_id, request.num_tokens - request.num_prompt_tokens)
            if verdict is not None:
                delta.finish_reason, delta.stop_reason = verdict.finish_reason, verdict.stop_reason
                self._end(sequence)
        # What is left are chunks of prompts that sample nothing yet.
        for request, report in reports.items():
            if request in self._sequences:
                sequence = self._sequences[request]
                deltas.append(SequenceDelta(sequence.request_id, sequence.index, [], report))
        return deltas

    def _fail(self, schedule: Schedule, error: AphroditeError) -> list[SequenceDelta]:
        deltas = []
        if isinstance(error, CacheLostError):
            self.scheduler.forget_cache()
        for request in self.scheduler.fail(schedule):
            sequence = self._sequences[request]
            self._end(sequence)
            deltas.append(SequenceDelta(sequence.request_id, sequence.index, [], error=error))
        return deltas

    def _end(self, sequence: _Sequence) -> None:
        """Let a sequence go, whatever its state."""
        group = sequence.group
        self.scheduler.finish(sequence.request)
        del self._sequences[sequence.request]
        group.sequences.remove(sequence)
        if not group.sequences:
            del self._groups[group.request_id]

    def _sequence(self, group: _Group, request: EngineRequest, index: int) -> _Sequence:
        sampling, num_prompt_tokens = request.sampling, len(request.prompt_token_ids)
        limit = self._backend.limits.max_model_len
        seed = sampling.seed if sampling.seed is not None else hash((self._seed, self._num_added))
        ends = sampling.stop_token_ids if sampling.ignore_eos else (*self._eos_token_ids, *sampling.stop_token_ids)
        scheduled = Request(
            f"{request.request_id}/{index}",
            request.prompt_token_ids,
            sampling,
            # Completion 1 of one seed must not draw as completion 0 of another.
            seed=(hash((seed, index)) if index else seed) % 2**64,
            order=(self._num_added, index),
            max_total_tokens=min(limit, num_prompt_tokens + (sampling.max_tokens or limit)),
            stop_token_ids=tuple(ends),
            images=request.images,
            owner=request.owner,
            is_prefix_masked=self._is_prefix_masked,
        )
        sequence = _Sequence(
            scheduled, group, index, StopChecker(sampling, self._eos_token_ids, limit, num_prompt_tokens)
        )
        self._sequences[scheduled] = sequence
        return sequence

"""The engine: drives scheduler and backend, token by token; text is none of its business."""

from collections import deque
from dataclasses import dataclass

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.errors import (
    AphroditeError,
    CacheLostError,
    EngineClosedError,
    FormError,
    SamplingParamsError,
    StepError,
)
from aphrodite.domain.generation.delta import SequenceDelta, collect_reports
from aphrodite.domain.generation.stopping import Verdict
from aphrodite.domain.ports import (
    BackendDescription,
    BackendLimits,
    Clock,
    ComputeBackend,
    Grammars,
    HeldStep,
    PendingStep,
)
from aphrodite.domain.prompting.prompt_length import check_num_tokens, check_whole_images, check_whole_prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.request import NOBODY, Owner, Request
from aphrodite.domain.scheduling.scheduler import Scheduler
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.step_builder import Schedule
from aphrodite.domain.scheduling.trial import trial_row
from aphrodite.engine.constraints import Constraints
from aphrodite.engine.forms import Forms
from aphrodite.engine.histories import Histories
from aphrodite.engine.sequences import Group, Sequence, Sequences

_MEASURED_TOKENS = 256
_FORM_WAIT_S = 0.005  # at once, for a form to be compiled while nothing else is to be done


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One prompt to be answered `sampling.n` times."""

    request_id: str
    prompt_token_ids: list[int]  # the images expanded
    sampling: SamplingParams
    images: tuple[ImageSpan, ...] = ()  # in the order of their tokens
    owner: Owner = NOBODY  # whose turn it takes
    priority: int = 0  # among the client's own: the lowest is first


@dataclass(slots=True)
class _Flight:
    """A step on its way."""

    schedule: Schedule
    launched_s: float
    pending: PendingStep | None  # None until its tokens are drawn
    held: HeldStep | None = None  # of which that is to be asked


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
        grammars: Grammars,
        is_prefix_masked: bool = False,
    ) -> None:
        self.scheduler = Scheduler(backend.limits, enable_prefix_caching)
        self._backend = backend
        self._clock = clock
        self._eos_token_ids = eos_token_ids
        self._vocab_size = vocab_size
        self._enable_prefix_caching = enable_prefix_caching
        self._is_prefix_masked = is_prefix_masked  # whether prompts' tokens see each other, those behind them as well
        self._forms: Forms[Group] = Forms(grammars)
        self._constraints = Constraints(grammars, clock, vocab_size, eos_token_ids)
        self._histories = Histories(clock, vocab_size)
        self._sequences = Sequences(
            max_model_len=backend.limits.max_model_len,
            eos_token_ids=eos_token_ids,
            seed=seed,
            is_prefix_masked=is_prefix_masked,
        )
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
        return len(self._sequences) > 0

    def check(self, request: EngineRequest) -> None:
        """Raises PromptTooLongError or SamplingParamsError for a request that `add` would not take."""
        num_image_tokens = sum(span.num_tokens for span in request.images)
        check_num_tokens(len(request.prompt_token_ids), self._backend.limits.max_model_len, num_image_tokens)
        check_whole_images(request.images, self._backend.limits.max_num_batched_tokens)
        if self._is_prefix_masked:
            check_whole_prompt(len(request.prompt_token_ids), self._backend.limits.max_num_batched_tokens)
        request.sampling.check_vocabulary(self._vocab_size)
        if request.sampling.structured_outputs is not None and not self._eos_token_ids:
            raise SamplingParamsError("structured_outputs needs a model with an end of sequence; this one has none.")

    def compile(self, form: StructuredOutputs) -> None:
        """Wait until a form is compiled, or found among those that were. Raises FormError or WorkerError.

        To be asked while no request is unfinished.
        """
        self._forms.compile(form)

    def add(self, request: EngineRequest) -> None:
        """Take a request. Raises as `check` does, and EngineClosedError."""
        if self._closed:
            raise EngineClosedError("The engine is closed; build a new one to ask more.")
        self.check(request)
        group = self._sequences.add(request)
        for sequence in group.sequences:
            self._histories.begin(sequence.request)
        form = request.sampling.structured_outputs
        if form is not None:
            self._forms.wait_for(form, group, request.owner.client, len(group.sequences))
        else:
            for sequence in group.sequences:
                self.scheduler.add(sequence.request)

    def abort(self, request_id: str) -> None:
        """End a request with all its completions; it gives no more deltas. Unknown ids were finished already."""
        for sequence in self._sequences.of(request_id):
            self._end(sequence)

    def abort_sequence(self, request_id: str, index: int) -> None:
        """End one completion of a request, whose text holds a stop string, say."""
        for sequence in self._sequences.of(request_id):
            if sequence.index == index:
                self._end(sequence)

    def step(self) -> list[SequenceDelta]:
        """Plan a step, launch it, and commit the oldest one in flight when the device has enough to do.

        What a step may draw that is constrained, or looks at what was said, depends on the tokens of all steps before;
        these are committed while the device works on its logits.
        """
        deltas = self._start_formed() if self._forms else []
        schedule = self.scheduler.schedule(self._constraints.resting() | self._histories.resting())
        if schedule is not None:
            failed = self._launch(schedule)
            if failed:
                return deltas + failed
            if self._in_flight[-1].pending is None:
                while len(self._in_flight) > 1:
                    deltas += self._commit(self._in_flight.popleft())
                deltas += self._draw(self._in_flight[-1])
        if self._in_flight and (schedule is None or len(self._in_flight) >= self._backend.limits.max_steps_in_flight):
            deltas += self._commit(self._in_flight.popleft())
        return deltas

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
            for request_id in self._sequences.request_ids:
                self.abort(request_id)
            self._forms.close()
            self._backend.close()

    def _start_formed(self) -> list[SequenceDelta]:
        """Let those run whose form is compiled; where there is nothing else to do, wait for one a little."""
        deltas = []
        is_idle = not self._in_flight and not self.scheduler.num_running and not self.scheduler.num_waiting
        for group, outcome in self._forms.ready(_FORM_WAIT_S if is_idle else 0):
            for sequence in list(group.sequences):
                if isinstance(outcome, AphroditeError):
                    deltas.append(self._end_with(sequence, outcome))
                else:
                    self._constraints.begin(sequence.request, outcome)
                    self.scheduler.add(sequence.request)
        return deltas

    def _launch(self, schedule: Schedule) -> list[SequenceDelta]:
        now_s = self._clock.now_s()
        for request in schedule.prompting:  # who decodes was there before
            sequence = self._sequences[request]
            if sequence.first_scheduled_s is None:
                sequence.first_scheduled_s = now_s
                self._note_prefix_lookup(request)
        try:
            if self._constraints.concern(schedule) or self._histories.concern(schedule):
                self._in_flight.append(_Flight(schedule, now_s, None, self._backend.hold(schedule.plan)))
            else:
                self._in_flight.append(_Flight(schedule, now_s, self._backend.launch(schedule.plan)))
        except StepError as error:
            return self._fail(schedule, error)
        except BaseException:  # Ctrl-C, say: the books must not list pictures that the device never encoded
            self.scheduler.fail(schedule)
            raise
        return []

    def _draw(self, flight: _Flight) -> list[SequenceDelta]:
        """Have a held step's tokens drawn; those before them are known."""
        assert flight.held is not None
        allowed, errors = self._constraints.allowed(flight.schedule)
        deltas = [self._end_with(self._sequences[request], error) for request, error in errors.items()]
        try:
            flight.pending = flight.held.draw(allowed, self._histories.changes(flight.schedule))
        except StepError as error:
            self._in_flight.remove(flight)
            deltas += self._fail(flight.schedule, error)
        return deltas

    def _note_prefix_lookup(self, request: Request) -> None:
        if self._enable_prefix_caching and request.sampling.prompt_logprobs is None:
            self._num_prefix_cache_queries += request.num_prompt_tokens
            self._num_prefix_cache_hits += request.num_cached_tokens

    def _commit(self, flight: _Flight) -> list[SequenceDelta]:
        schedule = flight.schedule
        if flight.pending is None:  # whoever drives this engine was interrupted before the draw
            return self._fail(schedule, StepError("The step was interrupted."))
        try:
            result = flight.pending.result()
        except StepError as error:
            return self._fail(schedule, error)
        began_s, self._last_result_s = max(flight.launched_s, self._last_result_s), self._clock.now_s()
        self.scheduler.step_size.note(schedule.plan.num_tokens, self._last_result_s - began_s)
        if result.mirostat_bounds is not None:
            for request, bound in zip(schedule.sampling, result.mirostat_bounds.tolist(), strict=True):
                request.mirostat_bound = bound
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
            verdict = sequence.stop.check_token(token_id, request.num_output_tokens)
            try:
                if verdict is None and self._constraints.ends_with(request, token_id):
                    verdict = Verdict("stop")
            except FormError as error:
                deltas.append(self._end_with(sequence, error))
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
        if isinstance(error, CacheLostError):
            self.scheduler.forget_cache()
        return [self._end_with(self._sequences[request], error) for request in self.scheduler.fail(schedule)]

    def _end_with(self, sequence: Sequence, error: AphroditeError) -> SequenceDelta:
        self._end(sequence)
        return SequenceDelta(sequence.request_id, sequence.index, [], error=error)

    def _end(self, sequence: Sequence) -> None:
        """Let a sequence go, whatever its state."""
        self.scheduler.finish(sequence.request)
        self._constraints.end(sequence.request)
        self._histories.end(sequence.request)
        if (form := sequence.request.sampling.structured_outputs) is not None:
            self._forms.leave(form)
        self._sequences.drop(sequence)

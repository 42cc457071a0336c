"""From token deltas to text and outputs: one assembler a request, on whichever side shows the text."""

from dataclasses import dataclass

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.delta import FinishReason, RankedLogprobs, SequenceDelta
from aphrodite.domain.generation.detokenizer import Detokenizer
from aphrodite.domain.generation.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput, shown_bytes
from aphrodite.domain.generation.stopping import StopSearch, StopStrings
from aphrodite.domain.ports import Tokenizer
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What a step added to one completion, as a user sees it."""

    index: int
    text: str
    text_offset: int  # characters of the completion's text in front of the first of the tokens
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: FinishReason | None
    stop_reason: int | str | None
    abort: bool  # the text ended at a stop string: the engine must be told


class RequestAssembler:
    """Collects what the engine says of one request.

    With `incremental` every delta's text is worked out at once, for streaming; otherwise only where stop strings need
    it, and the rest at the end. Without `keep_logprobs` those of the answer are in the deltas alone.
    """

    def __init__(
        self,
        request_id: str,
        prompt: ProcessedPrompt,
        sampling: SamplingParams,
        tokenizer: Tokenizer,
        arrival_s: float,
        *,
        incremental: bool,
        keep_logprobs: bool = True,
    ) -> None:
        self.request_id = request_id
        self.error: AphroditeError | None = None  # why the request failed
        self._prompt = prompt
        self._tokenizer = tokenizer
        self._incremental = incremental or bool(sampling.stop)
        detokenizer = Detokenizer(tokenizer, sampling.skip_special_tokens, prompt.token_ids)
        stop_strings = StopStrings(sampling.stop)
        self._keep_logprobs = keep_logprobs
        self._completions = [
            _Completion(index, sampling, tokenizer, detokenizer.fork(), stop_strings) for index in range(sampling.n)
        ]
        self.prompt_logprobs: list[dict[int, Logprob] | None] | None = None
        if sampling.prompt_logprobs is not None:
            self.prompt_logprobs = [None] * len(prompt.token_ids)
        self._arrival_s = arrival_s
        self._first_scheduled_s: float | None = None
        self._first_token_s: float | None = None
        self._finished_s: float | None = None
        self._num_cached_tokens = 0

    @property
    def finished(self) -> bool:
        return self.error is not None or all(completion.finish_reason for completion in self._completions)

    def push(self, delta: SequenceDelta, now_s: float) -> TextDelta | None:
        """Take in what a step added; None when it changes nothing that a user sees."""
        completion = self._completions[delta.index]
        if completion.finish_reason is not None:
            return None  # tokens that were under way when a stop string ended the text
        self._note(delta, now_s)
        if delta.error is not None:
            self.error = delta.error
        if not delta.token_ids:
            return None
        text_offset = completion.num_chars
        text = completion.push(delta, self._incremental)
        if self.finished:
            self._finished_s = now_s
        logprobs = completion.logprobs
        if logprobs is not None:
            logprobs = logprobs[-len(delta.token_ids) :]
            if not self._keep_logprobs:
                completion.logprobs = []
        return TextDelta(
            index=delta.index,
            text=text,
            text_offset=text_offset,
            token_ids=delta.token_ids,
            logprobs=logprobs,
            finish_reason=completion.finish_reason,
            stop_reason=completion.stop_reason,
            abort=completion.finish_reason is not None and delta.finish_reason is None,
        )

    def abort(self) -> None:
        """End what is not finished yet with the finish reason "abort"."""
        for completion in self._completions:
            if completion.finish_reason is None:
                completion.abort()

    def output(self) -> RequestOutput:
        """All that is known by now."""
        return RequestOutput(
            request_id=self.request_id,
            prompt=self._prompt.text,
            prompt_token_ids=self._prompt.token_ids,
            prompt_logprobs=self.prompt_logprobs,
            outputs=[completion.output() for completion in self._completions],
            finished=self.finished,
            metrics=RequestMetrics(self._arrival_s, self._first_scheduled_s, self._first_token_s, self._finished_s),
            num_cached_tokens=self._num_cached_tokens,
        )

    def _note(self, delta: SequenceDelta, now_s: float) -> None:
        """Keep what belongs to the request as a whole: times, and the prompt's log-probabilities."""
        if self._first_scheduled_s is None:
            self._first_scheduled_s = delta.first_scheduled_s
        if delta.token_ids and self._first_token_s is None:
            self._first_token_s = now_s
            self._num_cached_tokens = max(delta.num_cached_tokens, 0)
        if delta.report is not None and self.prompt_logprobs is not None:
            for position, ranked in enumerate(delta.report.prompt, start=delta.report.prompt_start):
                if self.prompt_logprobs[position] is None:  # else another completion's row has told it already
                    self.prompt_logprobs[position] = _named(ranked, self._tokenizer)


class _Completion:
    """One completion's tokens and text."""

    def __init__(
        self,
        index: int,
        sampling: SamplingParams,
        tokenizer: Tokenizer,
        detokenizer: Detokenizer,
        stop_strings: StopStrings,
    ) -> None:
        self.logprobs: list[dict[int, Logprob]] | None = None if sampling.logprobs is None else []
        self.num_chars = 0  # of the text that is worked out, shown or held back
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self._index = index
        self._sampling = sampling
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._stop_search = StopSearch(stop_strings, sampling.include_stop_str_in_output)
        self._token_ids: list[int] = []
        self._pending: list[int] = []  # tokens whose text is not worked out yet
        self._pieces: list[str] = []
        self._cumulative_logprob = 0.0

    def push(self, delta: SequenceDelta, incremental: bool) -> str:
        """Take in new tokens; returns the text that they make certain."""
        self._token_ids += delta.token_ids
        self._pending += delta.token_ids
        if self.logprobs is not None and delta.report is not None and delta.report.token is not None:
            named = _named(delta.report.token, self._tokenizer)
            self.logprobs.append(named)
            self._cumulative_logprob += named[delta.token_ids[-1]].logprob
        self.finish_reason, self.stop_reason = delta.finish_reason, delta.stop_reason
        if not self._sampling.detokenize or not (incremental or self.finish_reason):
            return ""
        if self.finish_reason == "stop" and not self._sampling.include_stop_str_in_output:
            self._pending.pop()  # the token that ended the sequence is no part of its text
        return self._spell_out()

    def abort(self) -> None:
        """End here, with the text of the tokens so far."""
        self.finish_reason = "abort"
        if self._sampling.detokenize:
            self._spell_out()

    def output(self) -> CompletionOutput:
        return CompletionOutput(
            index=self._index,
            text="".join(self._pieces),
            token_ids=list(self._token_ids),
            cumulative_logprob=None if self.logprobs is None else self._cumulative_logprob,
            logprobs=None if self.logprobs is None else list(self.logprobs),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )

    def _spell_out(self) -> str:
        """Work out the text of the pending tokens; returns what of it is certain, all of it at the end."""
        piece = self._detokenizer.push(self._pending)
        self._pending = []
        if self.finish_reason is not None:
            piece += self._detokenizer.flush()
        return self._show(piece)

    def _show(self, piece: str) -> str:
        """The part of new text that no stop string cuts off or could still cut off."""
        self.num_chars += len(piece)
        match = self._stop_search.push(piece, len(self._token_ids) >= self._sampling.min_tokens)
        text = match.text
        if match.matched is not None:
            self.finish_reason, self.stop_reason = "stop", match.matched
        elif self.finish_reason is not None:
            text += self._stop_search.flush()
        if text:
            self._pieces.append(text)
        return text


def _named(ranked: RankedLogprobs, tokenizer: Tokenizer) -> dict[int, Logprob]:
    named = {}
    for token_id, (logprob, rank) in ranked.items():
        token_bytes = tokenizer.token_bytes(token_id)
        named[token_id] = Logprob(logprob, rank, shown_bytes(token_bytes), token_bytes)
    return named

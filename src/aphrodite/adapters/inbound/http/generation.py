"""The completions of one API request while they are made."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.kept_logprobs import LogprobShare
from aphrodite.adapters.inbound.http.request_note import RequestNote
from aphrodite.domain.errors import AphroditeError, RequestError
from aphrodite.domain.generation.assembler import RequestAssembler, TextDelta
from aphrodite.domain.generation.delta import TokenReport
from aphrodite.domain.generation.outputs import Logprob, RequestOutput
from aphrodite.domain.ports import Clock, Metrics, Tokenizer
from aphrodite.domain.prompting.prompts import ProcessedPrompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Owner
from aphrodite.engine.answers import answers
from aphrodite.engine.client import EngineClient
from aphrodite.engine.engine import EngineRequest

_MAX_LOGPROBS = 1 << 19  # that are kept until an answer is whole
_MAX_PROMPT_LOGPROBS = 1 << 19  # of one request, all candidates counted
_PROMPTS_AT_ONCE = 16  # that are made ready before others have their turn


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that a request takes; a prompt counts once, however many completions it has."""

    num_prompt_tokens: int  # pictures' and cached ones among them
    num_cached_tokens: int  # found in the prefix cache
    num_image_tokens: int
    num_output_tokens: int
    num_reasoning_tokens: int | None = None  # of the output; None where no thoughts are looked for


def check_num_prompt_logprobs(
    prompts: Sequence[ProcessedPrompt], sampling: SamplingParams, field: str, asked_by: str = "prompt_logprobs"
) -> None:
    """Of all prompts together; what is generated is bounded by what a client reads.

    Raises InvalidRequestError about the request's `field`, whose sentence begins with `asked_by`.
    """
    if sampling.prompt_logprobs is None:
        return
    num_logprobs = sum(len(prompt.token_ids) for prompt in prompts) * (sampling.prompt_logprobs + 1) * sampling.n
    if num_logprobs > _MAX_PROMPT_LOGPROBS:
        raise InvalidRequestError(
            f"{asked_by} asks for {num_logprobs} log-probabilities of prompt tokens in all; at most "
            f"{_MAX_PROMPT_LOGPROBS} may be asked for in one request.",
            field,
        )


class Generation:
    """Has prompts answered, `sampling.n` times each. Iterate it once, to the end or under `contextlib.aclosing`.

    Choices are counted over all prompts: completion i of prompt p is choice p * n + i.
    """

    def __init__(
        self,
        request_id: str,
        client_name: str,  # whom the engine lets take turns with others
        prompts: Sequence[ProcessedPrompt],
        sampling: SamplingParams,
        *,
        client: EngineClient,
        tokenizer: Tokenizer,
        clock: Clock,
        metrics: Metrics,
        note: RequestNote,
        kept_logprobs: LogprobShare,
        streamed: bool,
        priority: int,
    ) -> None:
        """`streamed` answers are read from the deltas alone: their log-probabilities are not kept."""
        self.num_completions = sampling.n  # of each prompt
        self.num_choices = len(prompts) * sampling.n
        self._client = client
        self._clock = clock
        self._metrics = metrics
        self._note = note
        self._kept_logprobs = kept_logprobs
        self._sampling = sampling
        self._prompts = prompts
        self._owner = Owner(client_name, f"{request_id}/{id(self)}")
        self._tokenizer = tokenizer
        self._streamed = streamed
        self._priority = priority
        self._arrival_s = clock.now_s()
        note.num_prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        self._assemblers: list[RequestAssembler] = []  # of each prompt
        self._num_logprobs_left = None if streamed or sampling.logprobs is None else _MAX_LOGPROBS
        self._deltas = self._text_deltas()
        self._first: tuple[int, TextDelta] | None = None
        self._is_stopped = False

    async def begin(self) -> Self:
        """Wait for the first delta, so that what goes wrong until then can still be told by a status; `stop` may come
        before it.

        Raises RequestError, QueueFullError, EngineDeadError, EngineClosedError or StepError.
        """
        if not self._is_stopped:
            self._first = await anext(self._deltas, None)
        return self

    async def __aiter__(self) -> AsyncIterator[tuple[int, TextDelta]]:
        if self._is_stopped and self._first is None:
            await self.aclose()
        if self._first is not None:
            yield self._first
        async for choice_and_delta in self._deltas:
            yield choice_and_delta

    async def aclose(self) -> None:
        """Abort what is left."""
        await self._deltas.aclose()

    def stop(self) -> None:
        """End what is not finished where it is, also before it begins; what was made until now is still to be read."""
        self._is_stopped = True
        for index in range(len(self._prompts)):
            for completion in range(self.num_completions):
                self._client.abort_sequence(f"{self._owner.request}/{index}", completion)

    async def finish(self, heed: Callable[[int, TextDelta], object] | None = None) -> list[RequestOutput]:
        """Wait for everything; `heed` hears of each delta. Raises as `begin` does."""
        if heed and self._first is not None:
            heed(*self._first)
        async with aclosing(self._deltas) as deltas:
            async for index, delta in deltas:
                if heed:
                    heed(index, delta)
        return self.outputs()

    def outputs(self) -> list[RequestOutput]:
        """For each prompt, all that is known by now."""
        return [assembler.output() for assembler in self._assemblers]

    def prompt_token_ids(self, prompt_index: int) -> list[int]:
        """Of one prompt, its images' tokens among them."""
        return self._prompts[prompt_index].token_ids

    def prompt_logprobs(self, prompt_index: int) -> list[dict[int, Logprob] | None] | None:
        """For each token of one prompt, None for the first; None where they were not asked for."""
        return self._assemblers[prompt_index].prompt_logprobs

    def usage(self) -> TokenUsage:
        """Tokens by now."""
        outputs = self.outputs()
        return TokenUsage(
            num_prompt_tokens=sum(len(output.prompt_token_ids) for output in outputs),
            num_cached_tokens=sum(output.num_cached_tokens for output in outputs),
            num_image_tokens=sum(prompt.num_image_tokens for prompt in self._prompts),
            num_output_tokens=sum(len(choice.token_ids) for output in outputs for choice in output.outputs),
        )

    def _count(self, num_tokens: int) -> None:
        """Book new tokens. Raises RequestError where their log-probabilities are too many to be kept."""
        note = self._note
        if note.num_output_tokens is None:
            note.num_output_tokens, note.first_token_s = 0, self._clock.now_s() - self._arrival_s
        note.num_output_tokens += num_tokens
        if self._num_logprobs_left is not None:
            self._num_logprobs_left -= num_tokens * (1 + (self._sampling.logprobs or 0))
            if self._num_logprobs_left < 0:
                raise RequestError(
                    f"The answers have more than {_MAX_LOGPROBS} log-probabilities; ask for less, or for a stream."
                )

    def _keep(self, report: TokenReport | None) -> None:
        """Book log-probabilities that stay in memory. Raises LogprobMemoryError."""
        if report is not None:
            of_token = 0 if self._streamed or report.token is None else len(report.token)
            self._kept_logprobs.take(of_token + sum(map(len, report.prompt)))

    async def _text_deltas(self) -> AsyncGenerator[tuple[int, TextDelta], None]:
        try:
            requests = await self._prepare()
            async with aclosing(answers(self._client, requests, self._assemblers, self._clock)) as deltas:
                async for prompt_index, delta, text in deltas:
                    self._keep(delta.report)
                    if text is not None:
                        self._count(len(text.token_ids))
                        yield prompt_index * self._sampling.n + text.index, text
        except AphroditeError as error:
            self._metrics.note_error(error)
            raise
        finally:
            for assembler in self._assemblers:
                assembler.abort()
            outputs = self.outputs()
            for output in outputs:
                self._metrics.note_output(output)
            self._note.note_times([output.metrics for output in outputs if output.metrics is not None])

    async def _prepare(self) -> list[EngineRequest]:
        """Make ready for what will come, once it is sure that there is room; others go on meanwhile."""
        requests = [
            # Ids are the engine's keys, and a client may send its own twice: so the owner's is unique by the object's.
            EngineRequest(
                f"{self._owner.request}/{index}",
                prompt.token_ids,
                self._sampling,
                prompt.images,
                self._owner,
                self._priority,
            )
            for index, prompt in enumerate(self._prompts)
        ]
        self._client.check_room(requests)
        for number, (request, prompt) in enumerate(zip(requests, self._prompts, strict=True), 1):
            self._assemblers.append(
                RequestAssembler(
                    request.request_id,
                    prompt,
                    self._sampling,
                    self._tokenizer,
                    self._arrival_s,
                    incremental=True,
                    keep_logprobs=not self._streamed,
                )
            )
            if number % _PROMPTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return requests

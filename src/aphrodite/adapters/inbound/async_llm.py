"""The offline facade for asyncio: answers as they are made."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from aphrodite import bootstrap
from aphrodite.adapters.inbound.offline_model import OfflineModel, priority_of_each
from aphrodite.domain.errors import EngineClosedError
from aphrodite.domain.generation.assembler import RequestAssembler
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.answers import answers
from aphrodite.engine.client import EngineClient
from aphrodite.engine.engine import EngineRequest
from aphrodite.inputs import PromptInputs


class AsyncLLM(OfflineModel):
    """A model on this machine's hardware, whose answers are read while they are made.

    The engine runs in a process of its own, as the server's does, and is started again when it dies. Like all of
    multiprocessing's, that process reads the program's file: let it do its work under `if __name__ == "__main__":`.
    All coroutines belong to the event loop that the first one ran in.
    """

    def _open(self, parts: bootstrap.EngineParts) -> None:
        self._client = EngineClient(partial(bootstrap.build_engine, parts), max_queue=sys.maxsize)
        self._starting = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        """Have the weights loaded, unless they are; the first question does it, too.

        Raises ModelError, BackendError or ConfigError.
        """
        async with self._starting:
            if self._closed:
                raise EngineClosedError("This AsyncLLM was closed; build a new one to ask more.")
            if not self._started:
                await self._client.start()
                self._started = True

    async def generate(
        self,
        prompt: PromptInputs,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        priority: int = 0,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Answer one prompt: with each token all that there is of the answer by then, the last one `finished`.

        Leaving the loop ends the request. Any number of them may run at once.

        Args:
            prompt: As for `LLM.generate`.
            sampling_params: The model's own defaults when None.
            request_id: A name among those that run; one of its own when None.
            priority: Of those that wait the lowest is first.

        Raises RequestError when the prompt or its parameters are wrong, StepError when a step failed on the device,
        EngineDeadError when the engine's process ended meanwhile.
        """
        answer = self._answer(lambda: self._validate(prompt), sampling_params, request_id, priority)
        async with aclosing(answer) as outputs:
            async for output in outputs:
                yield output

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        request_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        mm_processor_kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Answer one conversation, written out as for `LLM.chat`; the rest is as for `generate`."""
        template = self._chat_template(chat_template)

        def prompt() -> Prompt:
            return self._render(messages, template, datetime.now(), add_generation_prompt, tools, mm_processor_kwargs)

        async with aclosing(self._answer(prompt, sampling_params, request_id, priority)) as outputs:
            async for output in outputs:
                yield output

    async def close(self) -> None:
        """End what runs, and give the hardware's memory back; no more is asked."""
        async with self._starting:
            if not self._closed:
                self._closed = True
                self._pool.shutdown(wait=False)
                await self._client.shutdown(timeout_s=0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._started else "not started"
        return f"AsyncLLM(model={self.config.model!r}, {state})"

    async def _answer(
        self,
        prompt: Callable[[], Prompt],
        sampling_params: SamplingParams | None,
        request_id: str | None,
        priority: int,
    ) -> AsyncGenerator[RequestOutput, None]:
        await self.start()
        clock, arrival_s = self._frontend.clock, self._frontend.clock.now_s()
        [sampling] = self._sampling_of_each(sampling_params, 1)
        [priority] = priority_of_each(priority, 1)

        def process() -> ProcessedPrompt:
            return self._process(prompt())

        processed = await asyncio.get_running_loop().run_in_executor(self._pool, process)
        self._num_requests += 1
        name = request_id or f"request-{self._num_requests - 1}"
        request = EngineRequest(name, processed.token_ids, sampling, processed.images, priority=priority)
        assembler = RequestAssembler(name, processed, sampling, self._frontend.tokenizer, arrival_s, incremental=True)
        async with aclosing(answers(self._client, [request], [assembler], clock)) as deltas:
            async for _, _, text in deltas:
                if text is not None:
                    yield assembler.output()

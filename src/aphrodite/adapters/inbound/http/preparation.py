"""Messages and prompts to what the engine runs. Slow work is done on a bounded pool, never on the event loop."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import msgspec

from aphrodite.adapters.inbound.http.openai.protocol import Message
from aphrodite.domain.errors import QueueFullError
from aphrodite.domain.ports import Clock, ImageDecoder, ImageFetcher, Metrics, Processor, Tokenizer
from aphrodite.domain.prompting.chat import Conversation, parse
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.content_format import ContentFormat
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt

P = ParamSpec("P")
R = TypeVar("R")


class Preparer:
    """Fetches, decodes, renders and tokenises.

    At most `max_open` requests are prepared at once; each may hold a body and a picture in memory.
    """

    def __init__(
        self,
        *,
        processor: Processor,
        tokenizer: Tokenizer,
        image_token: str | None,
        chat_template: ChatTemplate,
        content_format: ContentFormat | None,
        fetcher: ImageFetcher,
        decoder: ImageDecoder,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        max_open: int,
    ) -> None:
        self._processor = processor
        self._tokenizer = tokenizer
        self._image_token = image_token
        self._chat_template = chat_template
        self._content_format = content_format
        self._fetcher = fetcher
        self._decoder = decoder
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._max_open = max_open
        self._num_open = 0

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> ProcessedPrompt:
        """A conversation, rendered with `template` or the server's own.

        Raises PromptError and its children for what the messages, their image or the template has wrong, ConfigError
        for a `template` that is none, and QueueFullError.
        """
        conversation = parse(msgspec.to_builtins(messages))
        async with self._place():
            if conversation.image_url is not None:
                picture = await self._on_pool(self._decoder.decode, await self._fetch(conversation.image_url))
                conversation = dataclasses.replace(conversation, image_url=None, image=picture)
            return await self._on_pool(self._render, conversation, add_generation_prompt, template, variables)

    async def prompts(
        self, prompts: Sequence[str | list[int]], *, add_special_tokens: bool = True
    ) -> list[ProcessedPrompt]:
        """Text or token ids as they are; what looks like an image's placeholder is text.

        Raises PromptError or QueueFullError.
        """
        async with self._place():
            return await self._on_pool(
                lambda: [self._processor.process(_prompt(prompt, add_special_tokens)) for prompt in prompts]
            )

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens shown. Raises QueueFullError."""
        async with self._place():
            return await self._on_pool(self._tokenizer.decode, token_ids, skip_special_tokens=False)

    async def _fetch(self, url: str) -> bytes:
        started_s = self._clock.now_s()
        try:
            return await self._fetcher.fetch(url)
        finally:
            self._metrics.note_image_fetch(self._clock.now_s() - started_s)

    def _render(
        self,
        conversation: Conversation,
        add_generation_prompt: bool,
        template: str | None,
        variables: Mapping[str, Any] | None,
    ) -> ProcessedPrompt:
        prompt = render(
            conversation,
            self._chat_template if template is None else ChatTemplate(template),
            image_token=self._image_token,
            special_tokens=self._tokenizer.special_tokens,
            now=datetime.now(),  # of the operator's time zone, as transformers' own
            add_generation_prompt=add_generation_prompt,
            content_format=self._content_format,
            variables=variables,
        )
        return self._processor.process(prompt)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._num_open >= self._max_open:
            raise QueueFullError(f"{self._num_open} requests are being prepared already; ask again later.")
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1

    async def _on_pool(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))


def _prompt(prompt: str | list[int], add_special_tokens: bool) -> Prompt:
    text, token_ids = (prompt, None) if isinstance(prompt, str) else (None, tuple(prompt))
    return Prompt(text, token_ids, literal_placeholders=True, add_special_tokens=add_special_tokens)

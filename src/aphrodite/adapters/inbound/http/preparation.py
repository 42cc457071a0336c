"""Messages and prompts to what the engine runs. Slow work is done on a bounded pool, never on the event loop."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, TypeVarTuple

import msgspec

from aphrodite.domain.errors import PlaceholderError, PromptError, QueueFullError
from aphrodite.domain.ports import Clock, ImageFetcher, ImageReader, Metrics, Processor, Tokenizer
from aphrodite.domain.prompting.chat import Conversation, parse
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.content_format import ContentFormat
from aphrodite.domain.prompting.prompt_length import (
    check_num_chars,
    check_num_decoded,
    check_num_tokens,
    check_prompt,
)
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt, check_num_images, place_images

Args = TypeVarTuple("Args")
R = TypeVar("R")

_NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
_MAX_SHORT_CHARS = 50_000  # tokenised within a few hundredths of a second


class Preparer:
    """Fetches pictures and has them read, renders and tokenises.

    At most `max_open` requests are prepared at once; each may hold a body and `max_images` pictures in memory.
    Long texts have an executor of their own, so that short ones need not wait for them.
    """

    def __init__(
        self,
        *,
        processor: Processor,
        tokenizer: Tokenizer,
        image_token: str | None,
        image_marks: Sequence[str],
        chat_template: ChatTemplate,
        content_format: ContentFormat | None,
        fetcher: ImageFetcher,
        reader: ImageReader | None,
        executor: Executor,
        long_text_executor: Executor,
        max_model_len: Callable[[], int],  # known once the engine is ready
        clock: Clock,
        metrics: Metrics,
        max_images: int,
        max_open: int,
    ) -> None:
        self._processor = processor
        self._tokenizer = tokenizer
        self._image_token = image_token
        self._image_marks = image_marks
        self._chat_template = chat_template
        self._content_format = content_format
        self._fetcher = fetcher
        self._reader = reader  # None for a text-only model, which refuses pictures unseen
        self._executor = executor
        self._long_text_executor = long_text_executor
        self._max_model_len = max_model_len
        self._clock = clock
        self._metrics = metrics
        self._max_images = max_images
        self._max_open = max_open
        self._num_open = 0

    @property
    def reads_images(self) -> bool:
        """False for a text-only model."""
        return self._reader is not None

    async def chat(
        self,
        messages: Sequence[object],
        *,
        body_bytes: int,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        processor_settings: Mapping[str, Any] = _NO_SETTINGS,
    ) -> ProcessedPrompt:
        """A conversation, rendered with `template` or the server's own; it came in a body of so many bytes.

        Messages are dictionaries, or msgspec structs that become such.

        Raises PromptError and its children for what the messages, their image or the template has wrong,
        PromptTooLongError, ConfigError for a `template` that is none, and QueueFullError.
        """
        async with self._place():
            executor = self._executor_for(body_bytes)
            conversation, num_chars = await _run(executor, _conversation, messages, tools, self._max_images)
            check_num_chars(num_chars, self._tokenizer, self._max_model_len())
            if self._reader is not None:
                images = await self._pictures(self._reader, conversation.images, processor_settings)
                conversation = dataclasses.replace(conversation, images=images)
            work = partial(
                self._render,
                conversation,
                template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables=variables,
            )
            return await _run(self._executor_for(num_chars), work)

    async def prompts(
        self, prompts: Sequence[str | list[int]], *, add_special_tokens: bool = True
    ) -> list[ProcessedPrompt]:
        """Text or token ids as they are; what looks like an image's placeholder is text.

        Raises PromptError, PromptTooLongError or QueueFullError.
        """
        max_model_len = self._max_model_len()
        for prompt in prompts:
            if isinstance(prompt, str):
                check_num_chars(len(prompt), self._tokenizer, max_model_len)
            else:
                check_num_tokens(len(prompt), max_model_len)

        def work() -> list[ProcessedPrompt]:
            try:
                return [self._process(_prompt(prompt, add_special_tokens)) for prompt in prompts]
            except PlaceholderError as error:
                raise PlaceholderError(
                    "The prompt holds the token of an image, and text completions take none; ask in a chat."
                ) from error

        async with self._place():
            return await _run(self._executor_for(sum(map(len, prompts))), work)

    async def illustrated(self, text: str, image_urls: Sequence[str]) -> ProcessedPrompt:
        """A text with pictures: each stands where the image token is written, or in front of the text.

        Raises PromptError and its children, PromptTooLongError or QueueFullError.
        """
        check_num_images(len(image_urls), self._max_images)
        check_num_chars(len(text), self._tokenizer, self._max_model_len())
        if self._reader is None or self._image_token is None:
            raise PlaceholderError("This model reads text only; remove the image, or choose a vision-language model.")
        placed, offsets = place_images(text, self._image_token, len(image_urls))
        async with self._place():
            images = await self._pictures(self._reader, image_urls)
            prompt = Prompt(placed, None, images, image_word_offsets=offsets)
            return await _run(self._executor_for(len(text)), self._process, prompt)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens shown. Raises PromptTooLongError or QueueFullError."""
        check_num_decoded(len(token_ids), self._max_model_len())
        async with self._place():
            executor = self._executor_for(len(token_ids))
            return await _run(executor, partial(self._tokenizer.decode, token_ids, skip_special_tokens=False))

    async def _pictures(
        self, reader: ImageReader, urls: Sequence[str], settings: Mapping[str, Any] = _NO_SETTINGS
    ) -> tuple[object, ...]:
        """Fetched and read side by side; the first failure ends the others."""
        tasks = [asyncio.ensure_future(self._picture(reader, url, settings)) for url in urls]
        try:
            return tuple(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _picture(self, reader: ImageReader, url: str, settings: Mapping[str, Any]) -> object:
        started_s = self._clock.now_s()
        async with AsyncExitStack() as stack:
            try:
                data = await stack.enter_async_context(self._fetcher.hold(url))
            finally:
                self._metrics.note_image_fetch(self._clock.now_s() - started_s)
            return await reader.read(data, settings)

    def _render(
        self,
        conversation: Conversation,
        template: str | None,
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any] | None,
    ) -> ProcessedPrompt:
        prompt = render(
            conversation,
            self._chat_template if template is None else ChatTemplate(template),
            image_token=self._image_token,
            image_marks=self._image_marks,
            special_tokens=self._tokenizer.special_tokens,
            now=datetime.now(),  # of the operator's time zone, as transformers' own
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            content_format=self._content_format,
            variables=variables,
        )
        return self._process(prompt)

    def _process(self, prompt: Prompt) -> ProcessedPrompt:
        max_model_len = self._max_model_len()
        check_prompt(prompt, self._tokenizer, max_model_len)
        processed = self._processor.process(prompt)
        check_num_tokens(len(processed.token_ids), max_model_len, processed.num_image_tokens)
        return processed

    def _executor_for(self, num_chars: int) -> Executor:
        return self._executor if num_chars <= _MAX_SHORT_CHARS else self._long_text_executor

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._num_open >= self._max_open:
            raise QueueFullError(f"{self._num_open} requests are being prepared already; ask again later.")
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1


def _conversation(
    messages: Sequence[object], tools: Sequence[Mapping[str, Any]], max_images: int
) -> tuple[Conversation, int]:
    """A conversation and its characters."""
    try:
        plain = msgspec.to_builtins(messages)
    except RecursionError as error:
        raise PromptError("The messages are nested too deeply.") from error
    conversation = parse(plain, max_images, tools)
    return conversation, conversation.num_chars


async def _run(executor: Executor, work: Callable[[*Args], R], *args: *Args) -> R:
    return await asyncio.get_running_loop().run_in_executor(executor, work, *args)


def _prompt(prompt: str | list[int], add_special_tokens: bool) -> Prompt:
    text, token_ids = (prompt, None) if isinstance(prompt, str) else (None, tuple(prompt))
    return Prompt(text, token_ids, image_word_offsets=(), add_special_tokens=add_special_tokens)

"""The offline facade: prompts in, answers out, in the order they were given."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from aphrodite import bootstrap
from aphrodite.adapters.inbound.offline_model import OfflineModel, priority_of_each
from aphrodite.adapters.inbound.progress import Progress
from aphrodite.domain.errors import EngineClosedError, GenerationError, PromptError, RequestError
from aphrodite.domain.generation.assembler import RequestAssembler
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import EngineRequest
from aphrodite.inputs import PromptInputs

In = TypeVar("In")
Out = TypeVar("Out")


class LLM(OfflineModel):
    """A model on this machine's hardware, asked in batches."""

    def _open(self, parts: bootstrap.EngineParts) -> None:
        self._engine = bootstrap.build_engine(parts)
        self._lock = threading.Lock()  # one call at a time drives the engine

    def generate(
        self,
        prompts: PromptInputs | Sequence[PromptInputs],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        priority: int | Sequence[int] = 0,
    ) -> list[RequestOutput]:
        """Answer one prompt, or a list of prompts of any forms; results come in input order.

        Args:
            prompts: A string, `{"prompt": ...}` or `{"prompt_token_ids": ...}`, the latter two with optional
                `multi_modal_data={"image": ...}` and, for these pictures, `mm_processor_kwargs={...}` in place of the
                image processor's own settings; or a list of these.
            sampling_params: One for all, or a list with one for each prompt; the model's own defaults when None.
            use_tqdm: Show a progress bar with tokens per second.
            priority: Which prompts come first, one number for all or one for each: the lowest is first.

        Raises RequestError before anything runs when a prompt or its parameters are wrong; GenerationError, with what
        was finished, when a step failed on the device.
        """
        given = [prompts] if isinstance(prompts, str | Mapping) else prompts
        if not isinstance(given, Sequence):
            raise PromptError(f"prompts must be one prompt or a list of prompts, got {type(given).__name__}.")
        return self._run(
            [_each(index, self._validate, prompt) for index, prompt in enumerate(given)],
            sampling_params,
            use_tqdm,
            priority,
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        use_tqdm: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        mm_processor_kwargs: Mapping[str, Any] | None = None,
        priority: int | Sequence[int] = 0,
    ) -> list[RequestOutput]:
        """Answer one conversation, or a list of conversations, written out by the model's chat template.

        Args:
            messages: Messages `{"role": ..., "content": ...}`; the content is a string, or a list of parts: `{"type":
                "text", "text": ...}`, `{"type": "image_url", "image_url": {"url": "data:image/..."}}` and `{"type":
                "image_pil", "image_pil": PIL image}`.
            sampling_params: As for `generate`.
            chat_template: A Jinja template in place of the model's.
            add_generation_prompt: End the prompt where the assistant's answer begins.
            use_tqdm: As for `generate`.
            tools: Functions that the template tells the model of, `{"type": "function", "function": {"name": ...,
                "description": ..., "parameters": JSON schema}}`. What it answers is text, calls among it.
            mm_processor_kwargs: Settings in place of the model's image processor's own, for these pictures.
            priority: As for `generate`.

        Raises as `generate` does, and ConfigError when there is no chat template or it is not valid Jinja.
        """
        several = isinstance(messages, list | tuple) and bool(messages) and isinstance(messages[0], list | tuple)
        conversations: Sequence[Any] = messages if several else [messages]
        template = self._chat_template(chat_template)
        now = datetime.now()

        def prompt(conversation: object) -> Prompt:
            return self._render(conversation, template, now, add_generation_prompt, tools, mm_processor_kwargs)

        written = [_each(index, prompt, conversation) for index, conversation in enumerate(conversations)]
        return self._run(written, sampling_params, use_tqdm, priority)

    def __repr__(self) -> str:
        if self._closed:
            return f"LLM(model={self.config.model!r}, closed)"
        limits = self._engine.limits
        return f"LLM(model={self.config.model!r}, {self._engine.description}, max_model_len={limits.max_model_len})"

    def close(self) -> None:
        """Give the hardware's memory back, once a call that runs in another thread is answered; no more is asked."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._pool.shutdown()
                self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self,
        prompts: list[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        use_tqdm: bool,
        priority: int | Sequence[int],
    ) -> list[RequestOutput]:
        if self._closed:
            raise EngineClosedError("This LLM was closed; build a new one to ask more.")
        params = self._sampling_of_each(sampling_params, len(prompts))
        priorities = priority_of_each(priority, len(prompts))
        processed = list(self._pool.map(lambda item: _each(item[0], self._process, item[1]), enumerate(prompts)))
        with self._lock:
            requests = [self._request(*asked) for asked in zip(processed, params, priorities, strict=True)]
            for index, request in enumerate(requests):
                _each(index, self._engine.check, request)
                if request.sampling.structured_outputs is not None:
                    _each(index, self._engine.compile, request.sampling.structured_outputs)
            return self._drive(processed, requests, Progress(len(requests), shown=use_tqdm))

    def _drive(
        self, prompts: list[ProcessedPrompt], requests: list[EngineRequest], progress: Progress
    ) -> list[RequestOutput]:
        """Step the engine until every request has ended."""
        engine, clock = self._engine, self._frontend.clock
        assemblers = {
            request.request_id: RequestAssembler(
                request.request_id, prompt, request.sampling, self._frontend.tokenizer, clock.now_s(), incremental=False
            )
            for prompt, request in zip(prompts, requests, strict=True)
        }
        unfinished = set(assemblers)
        try:
            for request in requests:
                engine.add(request)
            while unfinished:
                deltas = engine.step()
                now_s = clock.now_s()
                for delta in deltas:
                    assembler = assemblers[delta.request_id]
                    text = assembler.push(delta, now_s)
                    if text is not None and text.abort:
                        engine.abort_sequence(delta.request_id, delta.index)
                    if assembler.finished and delta.request_id in unfinished:
                        unfinished.remove(delta.request_id)
                        if assembler.error is not None:
                            engine.abort(delta.request_id)  # its other completions
                        output = assembler.output()
                        progress.finish_prompt(
                            len(output.prompt_token_ids),
                            sum(len(completion.token_ids) for completion in output.outputs),
                        )
        finally:
            progress.close()
            for request_id in unfinished:  # the user pressed Ctrl-C, say: the engine must not go on with these
                engine.abort(request_id)
        return _outputs([assemblers[request.request_id] for request in requests])

    def _request(self, prompt: ProcessedPrompt, sampling: SamplingParams, priority: int) -> EngineRequest:
        self._num_requests += 1
        name = str(self._num_requests - 1)
        return EngineRequest(name, prompt.token_ids, sampling, prompt.images, priority=priority)


def _outputs(assemblers: list[RequestAssembler]) -> list[RequestOutput]:
    failed = [assembler for assembler in assemblers if assembler.error is not None]
    if failed:
        finished = [None if assembler.error is not None else assembler.output() for assembler in assemblers]
        raise GenerationError(
            f"{len(failed)} of {len(assemblers)} requests failed: {failed[0].error}", finished
        ) from failed[0].error
    return [assembler.output() for assembler in assemblers]


def _each(index: int, function: Callable[[In], Out], value: In) -> Out:
    """Call `function`, and note on a typed error which prompt of the list it is about."""
    try:
        return function(value)
    except RequestError as error:
        error.add_note(f"(prompt {index} of the list)")
        raise

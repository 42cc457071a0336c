"""The offline facade: prompts in, answers out, in the order they were given."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from aphrodite import bootstrap
from aphrodite.adapters.inbound.progress import Progress
from aphrodite.domain.config import EngineConfig, LoadFormat, parse_dtype
from aphrodite.domain.errors import (
    ConfigError,
    EngineClosedError,
    GenerationError,
    PromptError,
    RequestError,
    SamplingParamsError,
)
from aphrodite.domain.generation.assembler import RequestAssembler
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.ports import Tokenizer
from aphrodite.domain.prompting import chat as chat_messages
from aphrodite.domain.prompting import prompts as prompt_forms
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import EngineRequest
from aphrodite.inputs import PromptInputs

In = TypeVar("In")
Out = TypeVar("Out")


class LLM:
    """A model on this machine's hardware, asked in batches.

    Args:
        model: A folder in Hugging Face format, a .gguf file, a repository on the Hugging Face hub, or "demo" for the
            small model that comes with the package.
        tokenizer: Where the tokenizer lies, when not with the model.
        backend: "cuda" (torch, on an NVIDIA GPU or the CPU), "jax_tpu", another installed backend's name, or "auto":
            what APHRODITE_BACKEND names, else torch where it is installed, else JAX.
        device: "auto", "cpu", "cuda" or "cuda:N"; with the backend "jax_tpu" also "tpu" or "tpu:N".
        dtype: "auto", "float32", "bfloat16" or "float16", also as torch's own (torch.bfloat16).
        revision: Branch, tag or commit of a hub repository.
        trust_remote_code: Let transformers run code that comes with a model's tokenizer or processor.
        load_format: "dummy" for random weights of the configured shapes.
        max_model_len: Longest sequence, prompt and answer, in tokens; the model's own limit by default.
        max_num_seqs: Most sequences that run at once.
        max_num_batched_tokens: Most tokens of one step; longer prompts run in chunks.
        block_size: Tokens of one KV cache block; a TPU takes more where many long sequences may run.
        gpu_memory_utilization: Share of a GPU's memory for weights, steps and KV cache.
        kv_cache_memory: Bytes for the KV cache; overrides gpu_memory_utilization.
        enable_prefix_caching: Share the KV blocks of equal beginnings, pictures included.
        enforce_eager: Never capture CUDA graphs.
        tensor_parallel_size: Devices that share the model, with the backend "jax_tpu".
        limit_mm_per_prompt: Most images of one prompt or conversation, {"image": 1} by default.
        mm_processor_kwargs: Settings in place of the model's image processor's own, {"max_pixels": 1003520} of a
            Qwen2.5-VL.
        chat_template: A Jinja template for `chat`, in place of the model's own.
        seed: What requests without a seed of their own draw from.

    Raises ConfigError, ModelError or BackendError, each with a sentence that says what to do.
    """

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        backend: str = "auto",
        device: str = "auto",
        dtype: Any = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        load_format: LoadFormat = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int | None = None,
        block_size: int = 16,
        gpu_memory_utilization: float = 0.9,
        kv_cache_memory: int | None = None,
        enable_prefix_caching: bool = True,
        enforce_eager: bool = False,
        tensor_parallel_size: int = 1,
        limit_mm_per_prompt: Mapping[str, int] | None = None,
        mm_processor_kwargs: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        seed: int = 0,
    ) -> None:
        self.config = EngineConfig(
            model=model,
            tokenizer=tokenizer,
            backend=backend,
            device=device,
            dtype=parse_dtype(dtype),
            revision=revision,
            trust_remote_code=trust_remote_code,
            load_format=load_format,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            block_size=block_size,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_memory=kv_cache_memory,
            enable_prefix_caching=enable_prefix_caching,
            enforce_eager=enforce_eager,
            tensor_parallel_size=tensor_parallel_size,
            mm_processor_kwargs=dict(mm_processor_kwargs or {}),
            limit_mm_per_prompt=dict(limit_mm_per_prompt or {"image": 1}),
            chat_template=chat_template,
            seed=seed,
        )
        self._frontend, self._engine = bootstrap.build(self.config)
        self._pool = ThreadPoolExecutor(thread_name_prefix="aphrodite-processor")
        self._lock = threading.Lock()  # one call at a time drives the engine
        self._num_requests = 0
        self._closed = False

    def generate(
        self,
        prompts: PromptInputs | Sequence[PromptInputs],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Answer one prompt, or a list of prompts of any forms; results come in input order.

        Args:
            prompts: A string, `{"prompt": ...}` or `{"prompt_token_ids": ...}`, the latter two with optional
                `multi_modal_data={"image": ...}`; or a list of these.
            sampling_params: One for all, or a list with one for each prompt; the model's own defaults when None.
            use_tqdm: Show a progress bar with tokens per second.

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
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        use_tqdm: bool = True,
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

        Raises as `generate` does, and ConfigError when there is no chat template or it is not valid Jinja.
        """
        several = isinstance(messages, list | tuple) and bool(messages) and isinstance(messages[0], list | tuple)
        conversations: Sequence[Any] = messages if several else [messages]
        template = self._chat_template(chat_template)
        now = datetime.now()

        def prompt(conversation: object) -> Prompt:
            parsed = chat_messages.parse(conversation, self.config.max_images)
            read = self._frontend.read_image_url
            images = tuple(read(image) if isinstance(image, str) else image for image in parsed.images)
            return render(
                replace(parsed, images=images),
                template,
                image_token=self._frontend.image_token,
                special_tokens=self._frontend.tokenizer.special_tokens,
                now=now,
                add_generation_prompt=add_generation_prompt,
            )

        return self._run([_each(i, prompt, item) for i, item in enumerate(conversations)], sampling_params, use_tqdm)

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer, with `encode`, `decode`, `vocab_size`, `eos_token_ids` and `special_tokens`."""
        return self._frontend.tokenizer

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Raises PromptError."""
        return self._frontend.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return self._frontend.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

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

    def _validate(self, prompt: object) -> Prompt:
        return prompt_forms.validate(prompt, self.config.max_images)

    def _chat_template(self, source: str | None) -> ChatTemplate:
        source = source or self._frontend.chat_template
        if source is None:
            raise ConfigError("The model comes without a chat template; pass chat_template=, or use generate().")
        return ChatTemplate(source)

    def _run(
        self, prompts: list[Prompt], sampling_params: SamplingParams | Sequence[SamplingParams] | None, use_tqdm: bool
    ) -> list[RequestOutput]:
        if self._closed:
            raise EngineClosedError("This LLM was closed; build a new one to ask more.")
        given = self._frontend.default_sampling if sampling_params is None else sampling_params
        params = _params_for_each(given, len(prompts))
        processed = list(self._pool.map(lambda item: _each(item[0], self._process, item[1]), enumerate(prompts)))
        with self._lock:
            requests = [self._request(prompt, sampling) for prompt, sampling in zip(processed, params, strict=True)]
            for index, request in enumerate(requests):
                _each(index, self._engine.check, request)
            return self._drive(processed, requests, Progress(len(requests), shown=use_tqdm))

    def _process(self, prompt: Prompt) -> ProcessedPrompt:
        images = tuple(
            self._frontend.read_image_file(image) if isinstance(image, str | os.PathLike) else image
            for image in prompt.images
        )
        return self._frontend.processor.process(replace(prompt, images=images))

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

    def _request(self, prompt: ProcessedPrompt, sampling: SamplingParams) -> EngineRequest:
        self._num_requests += 1
        return EngineRequest(str(self._num_requests - 1), prompt.token_ids, sampling, prompt.images)


def _outputs(assemblers: list[RequestAssembler]) -> list[RequestOutput]:
    failed = [assembler for assembler in assemblers if assembler.error is not None]
    if failed:
        finished = [None if assembler.error is not None else assembler.output() for assembler in assemblers]
        raise GenerationError(
            f"{len(failed)} of {len(assemblers)} requests failed: {failed[0].error}", finished
        ) from failed[0].error
    return [assembler.output() for assembler in assemblers]


def _params_for_each(given: object, num_prompts: int) -> list[SamplingParams]:
    params = [given] * num_prompts if isinstance(given, SamplingParams) else given
    first = params[0] if isinstance(params, list | tuple) and params else params
    if isinstance(first, Mapping):
        fields = ", ".join(f"{name}={value!r}" for name, value in first.items())
        raise SamplingParamsError(
            f"sampling_params must be a SamplingParams or a list of them, not a dict: SamplingParams({fields})."
        )
    if not isinstance(params, list | tuple) or not all(isinstance(item, SamplingParams) for item in params):
        raise SamplingParamsError("sampling_params must be a SamplingParams or a list of them.")
    if len(params) != num_prompts:
        raise SamplingParamsError(
            f"sampling_params has {len(params)} entries for {num_prompts} prompts; pass one for all, or one for each."
        )
    return list(params)


def _each(index: int, function: Callable[[In], Out], value: In) -> Out:
    """Call `function`, and note on a typed error which prompt of the list it is about."""
    try:
        return function(value)
    except RequestError as error:
        error.add_note(f"(prompt {index} of the list)")
        raise

"""What `LLM` and `AsyncLLM` share: their options, and the way from a user's prompt to what the engine runs."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from aphrodite import bootstrap
from aphrodite.domain.config import EngineConfig, LoadFormat, parse_dtype
from aphrodite.domain.errors import ConfigError, SamplingParamsError
from aphrodite.domain.ports import Tokenizer
from aphrodite.domain.prompting import chat, prompts
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.parameter import check_int
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt
from aphrodite.domain.prompting.repetition import with_token_ids
from aphrodite.domain.prompting.sampling_params import SamplingParams


class OfflineModel:
    """A model with its tokenizer and image processor; its subclasses say where its engine runs."""

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        backend: str = "auto",
        device: str = "auto",
        dtype: Any = "auto",
        revision: str | None = None,
        download_dir: str | None = None,
        hf_token: str | None = None,
        generation_config: str = "auto",
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
        """
        Args:
            model: A folder in Hugging Face format, a .gguf file, a repository on the Hugging Face hub, or "demo" for
                the small model that comes with the package.
            tokenizer: Where the tokenizer lies, when not with the model.
            backend: "cuda" (torch, on an NVIDIA GPU or the CPU), "jax_tpu", another installed backend's name, or
                "auto": what APHRODITE_BACKEND names, else torch where it is installed, else JAX.
            device: "auto", "cpu", "cuda" or "cuda:N"; with the backend "jax_tpu" also "tpu" or "tpu:N".
            dtype: "auto", "float32", "bfloat16" or "float16", also as torch's own (torch.bfloat16).
            revision: Branch, tag or commit of a hub repository.
            download_dir: Where a hub repository is stored, when not where HF_HOME says.
            hf_token: For the hub, when not HF_TOKEN or what `hf auth login` stored.
            generation_config: Default parameters: "auto" for the model's own, "none" for greedy answers, or a folder
                with a generation_config.json.
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
        self.config = EngineConfig(
            model=model,
            tokenizer=tokenizer,
            backend=backend,
            device=device,
            dtype=parse_dtype(dtype),
            revision=revision,
            download_dir=download_dir,
            hf_token=hf_token,
            generation_config=generation_config,
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
        self._frontend, parts = bootstrap.prepare(self.config)
        self._open(parts)
        self._pool = ThreadPoolExecutor(thread_name_prefix="aphrodite-processor")
        self._num_requests = 0
        self._closed = False

    def _open(self, parts: bootstrap.EngineParts) -> None:
        """Make the engine. Raises ModelError, BackendError or ConfigError."""
        raise NotImplementedError

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer, with `encode`, `decode`, `vocab_size`, `eos_token_ids` and `special_tokens`."""
        return self._frontend.tokenizer

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Raises PromptError."""
        return self._frontend.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return self._frontend.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def _validate(self, prompt: object) -> Prompt:
        return prompts.validate(prompt, self.config.max_images)

    def _render(
        self,
        conversation: object,
        template: ChatTemplate,
        now: datetime,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        processor_settings: Mapping[str, Any] | None,
    ) -> Prompt:
        """A conversation as its template writes it."""
        parsed = chat.parse(conversation, self.config.max_images, tools)
        read = self._frontend.read_image_url
        images = tuple(read(image) if isinstance(image, str) else image for image in parsed.images)
        prompt = render(
            replace(parsed, images=images),
            template,
            image_token=self._frontend.image_token,
            image_marks=self._frontend.image_marks,
            special_tokens=self._frontend.tokenizer.special_tokens,
            now=now,
            add_generation_prompt=add_generation_prompt,
        )
        return replace(prompt, processor_settings=prompts.check_processor_settings(processor_settings))

    def _chat_template(self, source: str | None) -> ChatTemplate:
        source = source or self._frontend.chat_template
        if source is None:
            raise ConfigError("The model comes without a chat template; pass chat_template=, or use generate().")
        return ChatTemplate(source)

    def _process(self, prompt: Prompt) -> ProcessedPrompt:
        images = tuple(
            self._frontend.read_image_file(image) if isinstance(image, str | os.PathLike) else image
            for image in prompt.images
        )
        return self._frontend.processor.process(replace(prompt, images=images))

    def _sampling_of_each(self, given: object, num_prompts: int) -> list[SamplingParams]:
        """The model's own where None is given. Raises SamplingParamsError."""
        given = self._frontend.default_sampling if given is None else given
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
                f"sampling_params has {len(params)} entries for {num_prompts} prompts; pass one for all, or one for "
                "each."
            )
        encode = partial(self._frontend.tokenizer.encode, add_special_tokens=False)
        return [with_token_ids(sampling, encode) for sampling in params]


def priority_of_each(given: object, num_prompts: int) -> list[int]:
    """Raises SamplingParamsError."""
    priorities: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * num_prompts
    if len(priorities) != num_prompts:
        raise SamplingParamsError(f"priority has {len(priorities)} entries for {num_prompts} prompts.")
    for priority in priorities:
        check_int("priority", priority, low=-(2**31), high=2**31 - 1)
    return priorities

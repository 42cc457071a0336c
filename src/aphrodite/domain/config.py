"""The engine's configuration: frozen, validated when built."""

from dataclasses import dataclass
from typing import Literal, get_args

from aphrodite.domain.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
LoadFormat = Literal["auto", "dummy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Everything that decides which engine is built; the fields are the arguments of `LLM`.

    Raises ConfigError, which names the field and its range.
    """

    model: str  # a folder, a .gguf file, a Hugging Face repository, or "demo"
    tokenizer: str | None = None  # where the tokenizer lies, when not with the model
    backend: str = "auto"  # an entry point of the group aphrodite.backends
    device: str = "auto"
    dtype: Dtype = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    load_format: LoadFormat = "auto"
    max_model_len: int | None = None  # tokens, prompt and output; None: the model's own
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None  # tokens of one step; None: chosen by the backend
    block_size: int = 16  # tokens
    gpu_memory_utilization: float = 0.9  # share of the device's memory for weights and KV cache
    kv_cache_memory: int | None = None  # bytes; overrides gpu_memory_utilization
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    chat_template: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model must be the name of a model, got {self.model!r}.")
        for name, choices in (("dtype", get_args(Dtype)), ("load_format", get_args(LoadFormat))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        for name in ("max_num_seqs", "block_size"):
            _check_positive(name, getattr(self, name))
        for name in ("max_model_len", "max_num_batched_tokens", "kv_cache_memory"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        if not isinstance(self.gpu_memory_utilization, int | float) or not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                f"gpu_memory_utilization must be above 0 and at most 1, got {self.gpu_memory_utilization!r}."
            )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise ConfigError(f"seed must be an integer, got {self.seed!r}.")


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a positive integer, got {value!r}.")

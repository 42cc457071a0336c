"""The engine's and the server's configuration: frozen, validated when built."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.prompting.sampling_params import MAX_LOGPROBS

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPE_NAMES = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "fp32": "float32"}
_MAX_BLOCK_SIZE = 1024
LoadFormat = Literal["auto", "dummy"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
ContentFormat = Literal["auto", "string", "openai"]

_MIN_STEP_TIMEOUT_S = 5.0  # the engine's process says that it lives once a second


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
    download_dir: str | None = None  # where a hub repository is stored; None: where HF_HOME says
    hf_token: str | None = field(
        default=None, repr=False
    )  # for the hub; None: what `hf auth login` stored, or HF_TOKEN
    generation_config: str = "auto"  # default parameters: the model's own, "none" of them, or those of a folder
    trust_remote_code: bool = False
    load_format: LoadFormat = "auto"
    max_model_len: int | None = None  # tokens, prompt and output; None: the model's own
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None  # tokens of one step; None: chosen by the backend
    block_size: int = 16  # tokens; a TPU may take more
    gpu_memory_utilization: float = 0.9  # share of the device's memory for weights, steps and KV cache
    kv_cache_memory: int | None = None  # bytes; overrides gpu_memory_utilization
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    tensor_parallel_size: int = 1  # devices that share the model
    limit_mm_per_prompt: dict[str, int] = field(default_factory=lambda: {"image": 1})
    mm_processor_kwargs: dict[str, Any] = field(
        default_factory=dict
    )  # of the model's image processor, in place of its own
    chat_template: str | None = None
    seed: int = 0

    @property
    def max_images(self) -> int:
        """Most images of one prompt."""
        return self.limit_mm_per_prompt["image"]

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model must be the name of a model, got {self.model!r}.")
        object.__setattr__(self, "dtype", parse_dtype(self.dtype))
        if self.load_format not in get_args(LoadFormat):
            raise ConfigError(
                f"load_format must be one of {', '.join(get_args(LoadFormat))}, got {self.load_format!r}."
            )
        for name in ("max_num_seqs", "block_size", "tensor_parallel_size"):
            _check_positive(name, getattr(self, name))
        if self.block_size > _MAX_BLOCK_SIZE or self.block_size & (self.block_size - 1):
            raise ConfigError(
                f"block_size must be a power of two of at most {_MAX_BLOCK_SIZE} tokens, got {self.block_size}."
            )
        for name in ("max_model_len", "max_num_batched_tokens", "kv_cache_memory"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        if not isinstance(self.gpu_memory_utilization, int | float) or not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                f"gpu_memory_utilization must be above 0 and at most 1, got {self.gpu_memory_utilization!r}."
            )
        _check_limits(self.limit_mm_per_prompt)
        if not isinstance(self.mm_processor_kwargs, dict):
            raise ConfigError(f"mm_processor_kwargs must be a dictionary, got {self.mm_processor_kwargs!r}.")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise ConfigError(f"seed must be an integer, got {self.seed!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything about the HTTP server; the fields are the flags of `aphrodite run`.

    Raises ConfigError, which names the flag and its range.
    """

    host: str = "127.0.0.1"
    port: int = 2242  # 0: any free one
    uds: str | None = None  # a Unix socket's path, in place of host and port
    root_path: str = ""  # what a proxy in front puts before every path
    served_model_name: tuple[str, ...] = ()  # what requests may call the model; its own name when empty
    api_key: tuple[str, ...] = ()  # any of them opens every path; none: everybody may
    cors_origins: tuple[str, ...] = ()  # pages of these may call from a browser; "*" for all
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    max_body_bytes: int = 32 * 1024 * 1024  # of one HTTP request
    max_logprobs: int = MAX_LOGPROBS  # candidates beside each token that a request may ask for
    max_queue: int = 1024  # sequences that wait, a prompt's completions each counted
    max_connections: int = 2048  # open at once
    max_connections_per_address: int = 1024  # of them; a proxy in front of us is one address
    request_timeout: float = 600.0  # seconds, from the request's headers to its last byte
    step_timeout: float | None = None  # seconds; None: ten times the longest step expected, at least 60
    shutdown_timeout: float = 30.0  # seconds that running requests have after SIGTERM
    chat_template_content_format: ContentFormat = "auto"
    trust_request_chat_template: bool = False  # requests may bring a template, or arguments of any kind to it
    tool_call_parser: str | None = None  # how the model writes calls; None: found by its chat template
    reasoning_parser: str | None = None  # how it marks thoughts; likewise
    image_fetch_timeout: float = 10.0  # seconds, in all
    max_image_bytes: int = 20 * 1024 * 1024
    max_image_pixels: int = 50_000_000
    max_resized_pixels: int = 0  # that a request's mm_processor_kwargs may make of a picture; 0: requests bring none
    image_max_redirects: int = 0
    allowed_image_hosts: tuple[str, ...] = ()  # trusted at private addresses, too
    allowed_local_media_path: str | None = None  # file:// URLs may point below this folder
    disable_playground: bool = False  # no page at / and /playground
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    otlp_endpoint: str | None = None  # the address of a collector that gets a span of each request

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port must be from 0 to 65535, got {self.port}.")
        for name in ("served_model_name", "api_key", "cors_origins", "allowed_image_hosts"):
            if not all(getattr(self, name)):
                raise ConfigError(f"{_flag(name)} must not be empty.")
        for key in self.api_key:
            # What a header cannot carry could never be matched.
            if not key.isascii() or not key.isprintable() or key != key.strip():
                raise ConfigError("--api-key must be printable ASCII without spaces around it.")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ConfigError("--ssl-keyfile needs --ssl-certfile.")
        for name in (
            "max_body_bytes",
            "max_queue",
            "max_connections",
            "max_connections_per_address",
            "max_image_bytes",
            "max_image_pixels",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.max_logprobs <= MAX_LOGPROBS:
            raise ConfigError(f"--max-logprobs must be from 0 to {MAX_LOGPROBS}, got {self.max_logprobs}.")
        if self.root_path and not re.fullmatch(r"(/[\w.~-]+)+", self.root_path, re.ASCII):
            raise ConfigError(f"--root-path must be a path as in /aphrodite, got {self.root_path!r}.")
        if self.otlp_endpoint is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", self.otlp_endpoint):
            raise ConfigError(
                f"--otlp-endpoint must be an address as in http://localhost:4318, got {self.otlp_endpoint!r}."
            )
        for name in ("image_max_redirects", "max_resized_pixels"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{_flag(name)} must be at least 0, got {getattr(self, name)}.")
        for name in ("request_timeout", "image_fetch_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{_flag(name)} must be a number of seconds above 0, got {getattr(self, name):g}.")
        if self.step_timeout is not None and not _MIN_STEP_TIMEOUT_S <= self.step_timeout < math.inf:
            raise ConfigError(
                f"--step-timeout must be a number of seconds of at least {_MIN_STEP_TIMEOUT_S:g}, "
                f"got {self.step_timeout:g}."
            )
        if not 0 <= self.shutdown_timeout < math.inf:
            raise ConfigError(
                f"--shutdown-timeout must be a number of seconds of at least 0, got {self.shutdown_timeout:g}."
            )
        for name, choices in (
            ("log_level", get_args(LogLevel)),
            ("log_format", get_args(LogFormat)),
            ("chat_template_content_format", get_args(ContentFormat)),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{_flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")


def _check_limits(limits: object) -> None:
    """`limit_mm_per_prompt`: most items of each kind in one prompt; of other kinds than images, none."""
    if not isinstance(limits, dict) or "image" not in limits or any(limits[kind] for kind in limits if kind != "image"):
        raise ConfigError(f'limit_mm_per_prompt must be {{"image": N}}, got {limits!r}.')
    count = limits["image"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ConfigError(f'limit_mm_per_prompt must be {{"image": N}}, N an integer of at least 0, got {limits!r}.')


def parse_dtype(value: object) -> Dtype:
    """The number format that is called so: half, fp16, bf16, float and fp32 are known, and torch's own objects."""
    name = str(value).removeprefix("torch.")
    chosen = _DTYPE_NAMES.get(name, name)
    if chosen not in get_args(Dtype):
        raise ConfigError(f"dtype must be one of {', '.join(get_args(Dtype))}, got {value!r}.")
    return cast(Dtype, chosen)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a positive integer, got {value!r}.")

"""The composition root: EngineConfig -> wired objects. The only file that names an adapter or a backend."""

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aphrodite.adapters.outbound.grammars.grammars import LlguidanceGrammars
from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.configuration import read_config, read_generation_config
from aphrodite.adapters.outbound.huggingface.dummy_checkpoint import DummyCheckpoint
from aphrodite.adapters.outbound.huggingface.gguf_checkpoint import GgufCheckpoint
from aphrodite.adapters.outbound.huggingface.location import HubOptions, ModelLocation, locate_model, locate_tokenizer
from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.adapters.outbound.images.cache import CachingImageReader
from aphrodite.adapters.outbound.images.fetching import UrlImageFetcher
from aphrodite.adapters.outbound.images.limits import PixelLimits
from aphrodite.adapters.outbound.images.offline import open_picture_file, open_picture_url
from aphrodite.adapters.outbound.images.options import FetchOptions
from aphrodite.adapters.outbound.images.processing import ImageProcessing
from aphrodite.adapters.outbound.images.workers import ImageWorkers
from aphrodite.adapters.outbound.telemetry.clock import SystemClock
from aphrodite.adapters.outbound.telemetry.logs import configure_logging
from aphrodite.adapters.outbound.telemetry.metrics import PrometheusMetrics
from aphrodite.adapters.outbound.telemetry.tracing import OtlpTracer
from aphrodite.domain.architectures.experts import with_experts_of
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.architectures.tying import untie_by_checkpoint
from aphrodite.domain.config import EngineConfig, LogFormat, LogLevel, ServerConfig
from aphrodite.domain.errors import BackendNotFoundError, ConfigError
from aphrodite.domain.generation.message_format import find_message_format
from aphrodite.domain.ports import (
    CheckpointSource,
    Clock,
    ComputeBackend,
    ImageFetcher,
    ImageReader,
    Processor,
    Tokenizer,
    Tracer,
)
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.summary import describe_engine, describe_family
from aphrodite.engine.client import EngineClient
from aphrodite.engine.engine import Engine

_log = logging.getLogger(__name__)

_BACKEND_GROUP = "aphrodite.backends"
_LIBRARIES = {"cuda": "torch", "jax_tpu": "jax"}  # of "auto"'s backends, the first choice first
_EXTRAS = {"cuda": "cuda", "jax_tpu": "tpu"}  # backend -> what to install of this package for it


@dataclass(frozen=True, slots=True)
class Frontend:
    """What turns prompts into token ids and token ids into text; holds no weights."""

    processor: Processor
    tokenizer: Tokenizer
    model: ModelSpec
    image_token: str | None  # the placeholder's string; None for a text-only model
    image_marks: tuple[str, ...]  # the other words of images that are tokens
    default_sampling: SamplingParams  # the model's own
    chat_template: str | None
    read_image_url: Callable[[str], object]  # a data: URL to a picture; raises ImageError
    load_image_processing: Callable[[], ImageProcessing] | None  # for a process of its own; None for a text-only model
    read_image_file: Callable[[str | os.PathLike[str]], object]  # raises ImageError
    clock: Clock


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model's files, its weights unread."""

    location: ModelLocation
    checkpoint: CheckpointSource
    spec: ModelSpec
    tokenizer: HuggingFaceTokenizer


@dataclass(frozen=True, slots=True)
class EngineParts:
    """What an engine is made of, its weights unread; another process that gets them loads no tokenizer."""

    config: EngineConfig
    model: ModelSpec
    checkpoint: CheckpointSource
    normalization: PixelNormalization | None
    eos_token_ids: frozenset[int]
    tokenizer_definition: str  # as a tokenizer.json has it, for grammars alone


def prepare(config: EngineConfig) -> tuple[Frontend, EngineParts]:
    """All that can be done before weights are loaded. Raises ModelError, BackendError or ConfigError."""
    _backend_factory(config.backend)  # to hear of a wrong name before the model is read
    model = open_model(config)
    frontend = _frontend(config, model)
    return frontend, EngineParts(
        config=config,
        model=model.spec,
        checkpoint=model.checkpoint,
        normalization=frontend.processor.normalization,
        eos_token_ids=model.tokenizer.eos_token_ids,
        tokenizer_definition=model.tokenizer.definition,
    )


def build_served_engine(parts: EngineParts, log_level: LogLevel, log_format: LogFormat) -> Engine:
    """As `build_engine`, in a process of its own, which logs as the server does."""
    configure_logging(log_level, log_format)
    return build_engine(parts)


def build_engine(parts: EngineParts) -> Engine:
    """Load the weights onto the hardware. Raises ModelError, BackendError or ConfigError."""
    config = parts.config
    _log.info("Aphrodite %s loads %s, %s.", _version(), config.model, describe_family(parts.checkpoint.config))
    _log.debug("%s", config)
    create_backend = _backend_factory(config.backend)
    backend = create_backend(config, parts.model, parts.checkpoint, parts.normalization)
    backend.warm_up()
    vocab_size = parts.model.decoder.vocab_size
    for line in describe_engine(backend.description, backend.limits):
        _log.info("%s", line)
    return Engine(
        backend,
        SystemClock(),
        eos_token_ids=parts.eos_token_ids,
        vocab_size=vocab_size,
        seed=config.seed,
        enable_prefix_caching=config.enable_prefix_caching,
        grammars=LlguidanceGrammars(parts.tokenizer_definition, vocab_size, parts.eos_token_ids),
        is_prefix_masked=parts.model.sees_forward == "prompt",
    )


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What an HTTP server is made of. The client is not started."""

    frontend: Frontend
    chat_template: ChatTemplate
    client: EngineClient
    fetcher: ImageFetcher
    reader: ImageReader | None  # None for a text-only model
    metrics: PrometheusMetrics
    tracer: Tracer | None


def build_server(config: EngineConfig, server: ServerConfig) -> ServerParts:
    """Everything that `aphrodite run` needs but the HTTP server itself, and logs as `server` wants them.

    Raises ModelError or ConfigError, which names the flag to use where the model has no chat template.
    """
    configure_logging(server.log_level, server.log_format)
    folder = server.allowed_local_media_path
    fetch_options = FetchOptions(
        timeout_s=server.image_fetch_timeout,
        max_image_bytes=server.max_image_bytes,
        max_redirects=server.image_max_redirects,
        allowed_hosts=frozenset(server.allowed_image_hosts),
        allowed_local_media_path=None if folder is None else Path(folder),
    )
    find_message_format("", server.tool_call_parser, server.reasoning_parser)  # to hear of wrong names early
    frontend, engine = prepare(config)
    if frontend.chat_template is None:
        raise ConfigError("The model comes without a chat template; pass one with --chat-template FILE.")
    return ServerParts(
        frontend=frontend,
        chat_template=ChatTemplate(frontend.chat_template),
        client=EngineClient(
            partial(build_served_engine, engine, server.log_level, server.log_format),
            max_queue=server.max_queue,
            step_timeout_s=server.step_timeout,
        ),
        fetcher=UrlImageFetcher(fetch_options),
        reader=_image_reader(frontend, server),
        metrics=PrometheusMetrics((server.served_model_name or (config.model,))[0]),
        tracer=None if server.otlp_endpoint is None else OtlpTracer(server.otlp_endpoint, _version()),
    )


def _image_reader(frontend: Frontend, server: ServerConfig) -> ImageReader | None:
    if frontend.load_image_processing is None:
        return None
    limits = PixelLimits(server.max_image_pixels, server.max_resized_pixels)
    return CachingImageReader(ImageWorkers(frontend.load_image_processing, limits=limits))


def _version() -> str:
    return importlib.metadata.version("aphrodite-vlm")


def open_model(config: EngineConfig) -> OpenedModel:
    """The files behind a model's name, its weights unread. Raises ModelError."""
    hub = HubOptions(config.revision, config.download_dir, config.hf_token)
    location = locate_model(
        config.model,
        hub,
        # Hear of a model that is not supported before gigabytes are downloaded.
        check=lambda folder: read_model(read_config(folder, trust_remote_code=config.trust_remote_code)),
    )
    checkpoint: CheckpointSource
    add_space_prefix = True
    if location.gguf_path is not None:
        checkpoint = gguf = GgufCheckpoint(location.gguf_path)
        add_space_prefix = gguf.add_space_prefix or config.tokenizer is not None
    else:
        checkpoint = SafetensorsCheckpoint(location.folder, trust_remote_code=config.trust_remote_code)
    spec = read_model(checkpoint.config)
    if config.load_format == "dummy":
        checkpoint = DummyCheckpoint(checkpoint, spec, config.seed)
    elif (untied := untie_by_checkpoint(spec, checkpoint)) != spec:
        spec = untied
        _log.warning(
            "The configuration of %s says that the output head is the embeddings' matrix; its weights hold another, "
            "which is used: set tie_word_embeddings to false there.",
            config.model,
        )
    if any(spec.decoder.experts) and config.load_format != "dummy":
        spec = replace(spec, decoder=with_experts_of(spec.decoder, checkpoint.names()))
    spec = _for_contexts(spec, config.max_model_len or spec.decoder.max_position)
    tokenizer = HuggingFaceTokenizer(
        locate_tokenizer(config.tokenizer, hub) if config.tokenizer else location,
        vocab_size=spec.decoder.vocab_size,
        config=checkpoint.config,
        generation_config=checkpoint.generation_config,
        image_token_id=spec.image_token_id,
        add_space_prefix=add_space_prefix,
        trust_remote_code=config.trust_remote_code,
    )
    return OpenedModel(location, checkpoint, spec, tokenizer)


def _for_contexts(spec: ModelSpec, max_model_len: int) -> ModelSpec:
    chosen = spec.decoder.for_contexts(max_model_len)
    if chosen != spec.decoder:
        original = chosen.ropes[0].original_max_position
        _log.info(
            "The model turns by its frequencies for contexts beyond %d tokens, short ones as well; max_model_len=%d "
            "would choose those for short ones.",
            original,
            original,
        )
    return replace(spec, decoder=chosen)


def _frontend(config: EngineConfig, model: OpenedModel) -> Frontend:
    if config.chat_template is not None:
        ChatTemplate(config.chat_template)  # to hear of a mistake before the weights are loaded
    identity = json.dumps([str(model.location), dict(model.checkpoint.config)], sort_keys=True, default=str)
    processor = HuggingFaceProcessor(
        model.tokenizer,
        model.spec,
        model.location.folder,
        fingerprint=hashlib.blake2b(identity.encode(), digest_size=16).digest(),
        settings=config.mm_processor_kwargs,
        trust_remote_code=config.trust_remote_code,
    )
    return Frontend(
        processor=processor,
        tokenizer=model.tokenizer,
        model=model.spec,
        image_token=model.tokenizer.image_token,
        image_marks=model.tokenizer.image_marks,
        default_sampling=SamplingParams.from_generation_config(_generation_config(config, model.checkpoint)),
        chat_template=config.chat_template or model.tokenizer.chat_template,
        read_image_url=open_picture_url,
        read_image_file=open_picture_file,
        load_image_processing=None if processor.image_processing is None else processor.image_processing.loader,
        clock=SystemClock(),
    )


def _generation_config(config: EngineConfig, checkpoint: CheckpointSource) -> Mapping[str, Any]:
    """Where requests' default parameters come from. Raises ConfigError or CheckpointError."""
    match config.generation_config:
        case "auto":
            return checkpoint.generation_config
        case "none" | "vllm":
            return {}
    folder = Path(config.generation_config)
    if not (folder / "generation_config.json").is_file():
        raise ConfigError(
            "generation_config must be auto, none, or a folder that holds a generation_config.json; "
            f"got {config.generation_config[:200]!r}."
        )
    return read_generation_config(folder)


def _automatic_backend() -> str:
    """What $APHRODITE_BACKEND names; else torch's where torch is installed, or jax's where that is."""
    named = os.environ.get("APHRODITE_BACKEND") or "auto"
    if named != "auto":
        return named
    return next((backend for backend, library in _LIBRARIES.items() if find_spec(library)), "cuda")


def _backend_factory(name: str) -> Callable[..., ComputeBackend]:
    """The factory that the entry point `name` holds. Raises BackendNotFoundError."""
    installed: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=_BACKEND_GROUP)}
    wanted = _automatic_backend() if name == "auto" else name
    if wanted not in installed and wanted in _EXTRAS:
        raise BackendNotFoundError(
            f"The backend {wanted} cannot be found because Aphrodite is not installed, only its source is on Python's "
            "path: backends are entry points of the installed package; run pip install on its folder."
        )
    if wanted not in installed:
        raise BackendNotFoundError(
            f"No backend {wanted!r} is installed; there are: auto, {', '.join(sorted(installed))}."
        )
    try:
        factory: Callable[..., ComputeBackend] = installed[wanted].load()
    except ImportError as error:
        how = f'pip install "aphrodite-vlm[{_EXTRAS[wanted]}]"' if wanted in _EXTRAS else f"see {wanted}'s own package"
        raise BackendNotFoundError(f"The backend {wanted} lacks a library; install it with: {how}.") from error
    return factory

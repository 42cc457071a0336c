"""The composition root: EngineConfig -> wired objects. The only file that names an adapter or a backend."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.dummy_checkpoint import DummyCheckpoint
from aphrodite.adapters.outbound.huggingface.gguf_checkpoint import GgufCheckpoint
from aphrodite.adapters.outbound.huggingface.location import locate_model, locate_tokenizer
from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.adapters.outbound.telemetry.clock import SystemClock
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import BackendNotFoundError
from aphrodite.domain.ports import CheckpointSource, Clock, ComputeBackend, Processor, Tokenizer
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import Engine

_BACKEND_GROUP = "aphrodite.backends"
_DEFAULT_BACKEND = "cuda"


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything a front end needs, wired."""

    engine: Engine
    processor: Processor
    tokenizer: Tokenizer
    clock: Clock
    model: ModelSpec
    image_token: str | None  # the placeholder's string; None for a text-only model
    default_sampling: SamplingParams  # the model's own
    chat_template: str | None


def build(config: EngineConfig) -> Assembly:
    """Find the model, load it onto the hardware and wire the engine.

    Raises ModelError, BackendError or ConfigError before anything is served.
    """
    create_backend = _backend_factory(config.backend)
    location = locate_model(config.model, config.revision)
    checkpoint: CheckpointSource
    if location.gguf_path is not None:
        checkpoint = GgufCheckpoint(location.gguf_path)
    else:
        checkpoint = SafetensorsCheckpoint(location.folder, trust_remote_code=config.trust_remote_code)
    model = read_model(checkpoint.config)
    if config.load_format == "dummy":
        checkpoint = DummyCheckpoint(checkpoint, model, config.seed)
    tokenizer = HuggingFaceTokenizer(
        locate_tokenizer(config.tokenizer, config.revision) if config.tokenizer else location,
        vocab_size=model.decoder.vocab_size,
        config=checkpoint.config,
        generation_config=checkpoint.generation_config,
        image_token_id=model.image_token_id,
        trust_remote_code=config.trust_remote_code,
    )
    identity = json.dumps([str(location), dict(checkpoint.config)], sort_keys=True, default=str)
    processor = HuggingFaceProcessor(
        tokenizer,
        model,
        location.folder,
        fingerprint=hashlib.blake2b(identity.encode(), digest_size=16).digest(),
        trust_remote_code=config.trust_remote_code,
    )
    backend = create_backend(config, model, checkpoint, processor.normalization)
    backend.warm_up()
    clock = SystemClock()
    engine = Engine(
        backend,
        clock,
        eos_token_ids=tokenizer.eos_token_ids,
        vocab_size=model.decoder.vocab_size,
        seed=config.seed,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    return Assembly(
        engine=engine,
        processor=processor,
        tokenizer=tokenizer,
        clock=clock,
        model=model,
        image_token=tokenizer.image_token,
        default_sampling=SamplingParams.from_generation_config(checkpoint.generation_config),
        chat_template=config.chat_template or tokenizer.chat_template,
    )


def _backend_factory(name: str) -> Callable[..., ComputeBackend]:
    """The factory that the entry point `name` holds. Raises BackendNotFoundError."""
    installed: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=_BACKEND_GROUP)}
    wanted = _DEFAULT_BACKEND if name == "auto" else name
    if wanted not in installed:
        raise BackendNotFoundError(f"No backend {name!r} is installed; there are: auto, {', '.join(sorted(installed))}.")
    try:
        factory: Callable[..., ComputeBackend] = installed[wanted].load()
    except ImportError as error:
        raise BackendNotFoundError(
            f'The backend {wanted} lacks a library; install it with: pip install "aphrodite-vlm[{wanted}]".'
        ) from error
    return factory

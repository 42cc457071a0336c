"""An offline benchmark from settings to figures: ours and the peers, round by round in turn."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aphrodite import bootstrap
from aphrodite.bench import offline_figures
from aphrodite.bench.device_rates import better, measure_rates
from aphrodite.bench.model_folder import shared_folder, with_tokenizer
from aphrodite.bench.offline_figures import OfflineFigures
from aphrodite.bench.peers.peer import LIBRARIES, Peer, PeerRound, check_importable
from aphrodite.bench.phases import PhaseClock
from aphrodite.bench.profiler import traced
from aphrodite.bench.subject import Round, Subject
from aphrodite.bench.token_workload import TokenCounts, TokenWorkload
from aphrodite.bootstrap import OpenedModel
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import ConfigError

_WARM_UP_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class OfflineSettings:
    """What to run; `image_size` is (width, height) in pixels."""

    engine: EngineConfig
    num_requests: int
    input_tokens: TokenCounts
    output_tokens: TokenCounts
    image_size: tuple[int, int] | None
    num_rounds: int
    compare: str | None  # transformers, vllm, or a backend of ours
    compare_python: Path | None
    compare_dtypes: tuple[str, ...]  # empty: the one of the run
    profile: Path | None  # folder of the trace


@dataclass(frozen=True)
class OfflineResult:
    """The rounds, and what they come to."""

    rounds: list[Round]
    figures: OfflineFigures


def run_offline(settings: OfflineSettings, say: Callable[[str], None]) -> OfflineResult:
    """Measure; `say` hears what is being done. Raises ConfigError, ModelError or BackendError."""
    if settings.compare in LIBRARIES:
        check_importable(settings.compare, settings.compare_python)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="aphrodite-bench-")))
        config = with_tokenizer(settings.engine, folder)
        model = bootstrap.open_model(config)
        workload = _workload(settings, model)
        say(f"Starting {settings.engine.model}")
        subject = stack.enter_context(Subject(config, model))
        warm_up = workload.warm_up(config.max_num_seqs, _WARM_UP_TOKENS)
        warm_prompts = subject.run(warm_up).prompt_token_ids
        num_added = max(len(long) - len(short.token_ids) for long, short in zip(warm_prompts, warm_up, strict=True))
        longest = workload.input_tokens.high + 1 + num_added + workload.output_tokens.high
        peers: list[Peer] = []
        if settings.compare is not None:
            shared = shared_folder(model, config.load_format, folder) if settings.compare in LIBRARIES else folder
            for dtype in settings.compare_dtypes or (subject.dtype,):
                say(f"Starting {settings.compare}, {dtype}")
                peers.append(stack.enter_context(_peer(settings, config, model, shared, dtype, longest)))
        for peer in peers:
            peer.run(warm_up, warm_prompts)
        device, rates = measure_rates(config.backend, config.device, subject.dtype)
        rounds: list[Round] = []
        peer_rounds: list[list[PeerRound]] = [[] for _ in peers]
        for number in range(1, settings.num_rounds + 1):
            say(f"Round {number} of {settings.num_rounds}")
            prompts = workload.prompts(number)
            rounds.append(subject.run(prompts))
            for peer, done in zip(peers, peer_rounds, strict=True):
                done.append(peer.run(prompts, rounds[-1].prompt_token_ids))
        phase_s = None if settings.profile is None else _profile(subject, workload, settings, settings.profile, say)
        rates = better(rates, measure_rates(config.backend, config.device, subject.dtype)[1])
        figures = offline_figures.summarize_rounds(
            rounds,
            offline_figures.summarize_limit(rounds, device, subject.dtype, rates),
            [
                offline_figures.summarize_peer(peer.name, peer.dtype, peer.versions, done, rounds)
                for peer, done in zip(peers, peer_rounds, strict=True)
            ],
            phase_s,
        )
    return OfflineResult(rounds, figures)


def _workload(settings: OfflineSettings, model: OpenedModel) -> TokenWorkload:
    if settings.image_size is not None and model.spec.vision is None:
        raise ConfigError(f"--image-size: {settings.engine.model} reads text only.")
    workload = TokenWorkload(
        num_requests=settings.num_requests,
        input_tokens=settings.input_tokens,
        output_tokens=settings.output_tokens,
        image_size=settings.image_size,
        seed=settings.engine.seed,
        vocab_size=model.spec.decoder.vocab_size,
        image_token_id=model.spec.image_token_id,
    )
    text = workload.input_tokens.high + workload.output_tokens.high
    limit = min(settings.engine.max_model_len or text, model.spec.decoder.max_position)
    if text > limit:
        raise ConfigError(f"Prompts and answers of up to {text} tokens do not fit into a context of {limit}.")
    return workload


def _peer(
    settings: OfflineSettings,
    config: EngineConfig,
    model: OpenedModel,
    folder: Path,
    dtype: str,
    longest: int,
) -> Peer:
    """`longest` is how many tokens it must hold of a prompt with its answer."""
    assert settings.compare is not None
    peer_settings: dict[str, Any] = {
        "model": str(folder),
        "dtype": dtype,
        "device": config.device,
        "max_num_seqs": config.max_num_seqs,
        "max_model_len": longest,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "images_per_prompt": int(settings.image_size is not None),
        "image_token_id": model.spec.image_token_id,
        "engine": asdict(replace(config, backend=settings.compare, dtype=dtype)),  # type: ignore[arg-type]
    }
    return Peer(settings.compare, dtype, settings.compare_python, peer_settings)


def _profile(
    subject: Subject, workload: TokenWorkload, settings: OfflineSettings, folder: Path, say: Callable[[str], None]
) -> dict[str, float]:
    """Two more rounds: one with clocks alone, because a profiler slows what it watches, and one for the trace."""
    say("A round with clocks")
    clock = PhaseClock()
    found = subject.run_clocked(workload.prompts(settings.num_rounds + 1), clock)
    [total_s] = offline_figures.round_seconds([found])
    say(f"A round for the trace in {folder}")
    with traced(settings.engine.backend, folder) as annotate:
        subject.run_clocked(workload.prompts(settings.num_rounds + 2), PhaseClock(annotate))
    spent = {**clock.seconds, "elsewhere": total_s - sum(clock.seconds.values())}
    return {name: round(spent[name], 6) for name in sorted(spent, key=lambda name: -spent[name])}

"""All curves of one engine, one after the other."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from aphrodite import bootstrap
from aphrodite.bench.curves.batches import measure_batches
from aphrodite.bench.curves.contexts import NUM_SEQUENCES, measure_contexts
from aphrodite.bench.curves.driver import StepDriver
from aphrodite.bench.curves.figures import GrowthFigures
from aphrodite.bench.curves.requests import measure_requests
from aphrodite.bench.curves.waiting import measure_waiting
from aphrodite.bench.model_folder import with_tokenizer
from aphrodite.bench.subject import Subject
from aphrodite.domain.config import EngineConfig


def run_growth(config: EngineConfig, say: Callable[[str], None]) -> GrowthFigures:
    """Measure; `say` hears what is being done. Raises ConfigError, ModelError or BackendError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="aphrodite-bench-")))
        config = with_tokenizer(config, folder)
        model = bootstrap.open_model(config)
        say(f"Starting {config.model}")
        subject = stack.enter_context(Subject(config, model))
        driver = StepDriver(subject.engine, model.spec, config.seed)
        say("Memory against context")
        contexts = measure_contexts(driver, model.spec.decoder)
        say("Time of a step against sequences")
        batches = measure_batches(driver)
        say("Throughput against requests")
        requests = measure_requests(subject, model.spec, config.seed)
        say("Scheduler against waiting requests")
        waiting = measure_waiting(subject.engine.limits.block_size, config.seed)
        return GrowthFigures(subject.dtype, batches, contexts, NUM_SEQUENCES, requests, waiting)

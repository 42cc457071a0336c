"""Traces for torch's and JAX's own viewers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aphrodite.bench.phases import Annotate


@contextmanager
def traced(backend: str, folder: Path) -> Iterator[Annotate]:
    """Trace what runs in the block, and write the trace to `folder`; yields what marks stretches of time in it.

    torch writes trace.json, to be opened in Perfetto; JAX what TensorBoard and XProf read.
    """
    if backend == "jax_tpu":
        import jax

        with jax.profiler.trace(folder):
            yield jax.profiler.TraceAnnotation
        return
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiler:
        yield record_function
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / "trace.json"))

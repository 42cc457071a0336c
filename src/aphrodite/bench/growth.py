"""`aphrodite bench growth`: how cost grows with the work."""

import typer

from aphrodite.bench import options
from aphrodite.bench.options import check_folders
from aphrodite.domain.config import EngineConfig

_ENGINE = EngineConfig(model="demo")  # for the defaults


def growth(
    model: options.Model = "demo",
    load_format: options.LoadFormat = _ENGINE.load_format,
    backend: options.Backend = _ENGINE.backend,
    device: options.Device = _ENGINE.device,
    dtype: options.Dtype = _ENGINE.dtype,
    gpu_memory_utilization: options.GpuMemoryUtilization = _ENGINE.gpu_memory_utilization,
    seed: options.Seed = 0,
    json_file: options.JsonFile = None,
    plot: options.Plot = None,
) -> None:
    """Measure offline what steps, contexts, requests and waiting cost as they become more; prints Markdown."""
    # These take a while to load; --help need not wait for them.
    from aphrodite.bench import report
    from aphrodite.bench.curves.batches import MOST_SEQUENCES
    from aphrodite.bench.curves.plot import plot_growth
    from aphrodite.bench.curves.run import run_growth
    from aphrodite.bench.curves.table import growth_tables
    from aphrodite.bench.plot import check_plot

    settings = {
        "model": model,
        "load_format": load_format,
        "backend": backend,
        "device": device,
        "dtype": dtype,
        "max_num_seqs": MOST_SEQUENCES,
        "gpu_memory_utilization": gpu_memory_utilization,
        "seed": seed,
    }
    engine = EngineConfig(**settings)  # type: ignore[arg-type]
    check_folders(json_file, plot)
    if plot is not None:
        check_plot(plot)
    figures = run_growth(engine, lambda text: typer.echo(f"{text} ...", err=True))
    title = f"{model}, {figures.dtype}, backend {backend}"
    typer.echo(f"{title}\n\n{growth_tables(figures)}")
    if json_file is not None:
        report.write_json(json_file, report.report(settings, figures))
    if plot is not None:
        plot_growth(plot, figures, title)

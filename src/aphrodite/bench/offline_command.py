"""What `aphrodite bench throughput` and `latency` have in common: read the flags, run, write the results."""

from pathlib import Path
from typing import Any, get_args

import typer

from aphrodite.bench.options import check_folders, parse_image_size
from aphrodite.domain.config import Dtype, EngineConfig
from aphrodite.domain.errors import ConfigError


def run_command(
    engine: EngineConfig,
    *,
    num_requests: int,
    input_tokens: str,
    output_tokens: str,
    image_size: str,
    num_rounds: int,
    compare: str | None,
    compare_python: Path | None,
    compare_dtypes: str | None,
    profile: Path | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Run the benchmark that the flags describe, print its table and write its files."""
    # These take a while to load; --help need not wait for them.
    from aphrodite.bench import report
    from aphrodite.bench.offline_run import OfflineSettings, run_offline
    from aphrodite.bench.offline_table import offline_table
    from aphrodite.bench.plot import check_plot, plot_offline
    from aphrodite.bench.token_workload import TokenCounts

    settings = OfflineSettings(
        engine=engine,
        num_requests=num_requests,
        input_tokens=TokenCounts.parse("--input-tokens", input_tokens),
        output_tokens=TokenCounts.parse("--output-tokens", output_tokens),
        image_size=parse_image_size(image_size),
        num_rounds=num_rounds,
        compare=compare,
        compare_python=compare_python,
        compare_dtypes=_dtypes(compare_dtypes),
        profile=profile,
    )
    if compare is None and (compare_python is not None or compare_dtypes is not None):
        raise ConfigError("--compare-python and --compare-dtypes go with --compare.")
    check_folders(json_file, plot, profile)
    if plot is not None:
        check_plot(plot)

    result = run_offline(settings, lambda text: typer.echo(f"{text} ...", err=True))
    figures = result.figures
    picture = "" if settings.image_size is None else f" and a picture of {image_size}"
    title = (
        f"{engine.model}, {figures.limit.dtype}: {num_requests} requests, {engine.max_num_seqs} at once at most; "
        f"{settings.input_tokens} tokens{picture} in, {settings.output_tokens} out"
    )
    typer.echo(f"{title}\n\n{offline_table(figures)}")
    if json_file is not None:
        written: dict[str, Any] = {
            "model": engine.model,
            "load_format": engine.load_format,
            "backend": engine.backend,
            "device": engine.device,
            "dtype": engine.dtype,
            "max_num_seqs": engine.max_num_seqs,
            "max_num_batched_tokens": engine.max_num_batched_tokens,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "requests": num_requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "image_size": image_size,
            "rounds": num_rounds,
            "seed": engine.seed,
            "compare": compare,
            "compare_dtypes": compare_dtypes,
        }
        report.write_json(json_file, report.report(written, figures))
    if plot is not None:
        plot_offline(plot, [found.measurement for found in result.rounds], figures, title)


def _dtypes(text: str | None) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text is not None else ()
    known = [name for name in get_args(Dtype) if name != "auto"]
    for name in names:
        if name not in known:
            raise ConfigError(f"--compare-dtypes must be of {', '.join(known)}, got {name!r}.")
    return names

"""The plot: how long requests waited for their first token, and for each of the others."""

from importlib.util import find_spec
from pathlib import Path

from aphrodite.adapters.inbound.cli.bench.figures import good_answers, times_per_token_s, times_to_first_token_s
from aphrodite.adapters.inbound.cli.bench.measurement import Measurement
from aphrodite.domain.errors import ConfigError


def check_plot(path: Path) -> None:
    """Whether a plot can be drawn, before there is one to draw. Raises ConfigError."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot must end in .png, got {str(path)!r}.")
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib; install it with: pip install 'aphrodite-vlm[bench]'")


def write_plot(path: Path, measurement: Measurement, title: str) -> None:
    """Draw a PNG. Raises ConfigError when it cannot be written."""
    from matplotlib.figure import Figure  # loaded here: it is optional, and takes a second

    good = good_answers(measurement)
    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle(title)
    arrival, first, each = figure.subplots(1, 3)
    answered = [answer for answer in good if answer.first_token_s]
    arrival.plot(
        [answer.due_s - measurement.started_s for answer in answered],
        [second * 1000 for second in times_to_first_token_s(answered)],
        ".",
    )
    arrival.set(xlabel="sent after, s", ylabel="time to first token, ms", title="Over the run", ylim=(0, None))
    for axes, seconds, name in (
        (first, times_to_first_token_s(good), "time to first token, ms"),
        (each, times_per_token_s(good), "time per token, ms"),
    ):
        if seconds:
            axes.ecdf([second * 1000 for second in seconds])
        axes.set(xlabel=name, ylabel="share of requests", title="At most", ylim=(0, 1.02), xlim=(0, None))
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise ConfigError(f"--plot cannot be written: {path}: {error.strerror}.") from error

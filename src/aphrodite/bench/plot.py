"""The plots: a panel of the benchmark's own, and how long requests waited for their first token and for each other."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aphrodite.bench.figures import good_answers, times_per_token_s, times_to_first_token_s
from aphrodite.bench.measurement import Answer, Measurement
from aphrodite.domain.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aphrodite.bench.offline_figures import OfflineFigures


def check_plot(path: Path) -> None:
    """Whether a plot can be drawn, before there is one to draw. Raises ConfigError."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot must end in .png, got {str(path)!r}.")
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib; install it with: pip install 'aphrodite-vlm[bench]'")


def plot_load(path: Path, measurement: Measurement, title: str) -> None:
    """A server's load, over its time. Raises ConfigError when it cannot be written."""
    good = good_answers(measurement)
    answered = [answer for answer in good if answer.first_token_s]

    def over_time(axes: "Axes") -> None:
        axes.plot(
            [answer.due_s - measurement.started_s for answer in answered],
            [second * 1000 for second in times_to_first_token_s(answered)],
            ".",
        )
        axes.set(xlabel="sent after, s", ylabel="time to first token, ms", title="Over the run", ylim=(0, None))

    _write(path, good, title, over_time)


def plot_offline(path: Path, measurements: Sequence[Measurement], figures: "OfflineFigures", title: str) -> None:
    """Offline rounds beside their peers and the limit. Raises ConfigError when it cannot be written."""

    def rates(axes: "Axes") -> None:
        bars = {"aphrodite": figures.output_tokens_per_s}
        bars |= {f"{peer.name}\n{peer.dtype}": peer.output_tokens_per_s for peer in figures.peers}
        bars["limit"] = figures.limit.output_tokens_per_s
        drawn = axes.barh(list(bars), list(bars.values()), color=[*(["C0"] * (len(bars) - 1)), "lightgrey"])
        axes.bar_label(drawn, fmt="%.0f", padding=2)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set(xlabel="output tokens/s", title="Throughput")

    _write(path, [answer for found in measurements for answer in found.answers], title, rates)


def _write(path: Path, answers: Sequence[Answer], title: str, draw: Callable[["Axes"], None]) -> None:
    from matplotlib.figure import Figure  # loaded here: it is optional, and takes a second

    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle(title)
    own, first, each = figure.subplots(1, 3)
    draw(own)
    for axes, seconds, name in (
        (first, times_to_first_token_s(answers), "time to first token, ms"),
        (each, times_per_token_s(answers), "time per token, ms"),
    ):
        if seconds:
            axes.ecdf([second * 1000 for second in seconds])
        axes.set(xlabel=name, ylabel="share of requests", title="At most", ylim=(0, 1.02), xlim=(0, None))
        axes.grid(alpha=0.3)
    save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """As a PNG. Raises ConfigError when it cannot be written."""
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise ConfigError(f"--plot cannot be written: {path}: {error.strerror}.") from error

"""The curves as plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aphrodite.bench.curves.figures import GrowthFigures, RequestsPoint
from aphrodite.bench.plot import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SCHEDULER_BAR_MS = 1.0


def plot_growth(path: Path, figures: GrowthFigures, title: str) -> None:
    """A panel for each curve. Raises ConfigError when the file cannot be written."""
    from matplotlib.figure import Figure  # loaded here: it is optional, and takes a second

    figure = Figure(figsize=(15, 8.5), layout="constrained")
    figure.suptitle(title)
    (batches, contexts, memory), (rates, tokens, waiting) = figure.subplots(2, 3)
    _batches(batches, figures)
    _contexts(contexts, figures)
    _memory(memory, figures)
    _rates(rates, figures.requests)
    _tokens(tokens, figures.requests)
    _waiting(waiting, figures)
    for axes in (batches, contexts, memory, rates, tokens, waiting):
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def _batches(axes: "Axes", figures: GrowthFigures) -> None:
    sequences = [point.num_sequences for point in figures.batches]
    axes.plot(sequences, [point.step_ms for point in figures.batches], "o-", label="step")
    axes.plot(sequences, [point.host_ms for point in figures.batches], "o-", label="of it the host")
    axes.set(xlabel="sequences that decode together", ylabel="milliseconds", title="Step against sequences")
    _count_axis(axes, sequences)
    _log_axis(axes)


def _contexts(axes: "Axes", figures: GrowthFigures) -> None:
    tokens = [point.num_tokens for point in figures.contexts]
    label = f"{figures.num_sequences_of_contexts} sequences"
    axes.plot(tokens, [point.step_ms for point in figures.contexts], "o-", label=label)
    axes.set(xlabel="context, tokens", ylabel="milliseconds", title="Step against context", ylim=(0, None))


def _memory(axes: "Axes", figures: GrowthFigures) -> None:
    tokens = [point.num_tokens for point in figures.contexts]
    kv_cache = [figures.num_sequences_of_contexts * point.kv_cache_bytes / 1024**2 for point in figures.contexts]
    axes.plot(tokens, [point.resident_bytes / 1024**2 for point in figures.contexts], "o-", label="process")
    axes.plot(tokens, kv_cache, "o-", label=f"KV cache in use, {figures.num_sequences_of_contexts} sequences")
    axes.set(xlabel="context, tokens", ylabel="MiB", title="Memory against context")
    _log_axis(axes)


def _rates(axes: "Axes", points: Sequence[RequestsPoint]) -> None:
    for kind in dict.fromkeys(point.kind for point in points):
        own = [point for point in points if point.kind == kind]
        axes.plot([point.num_requests for point in own], [point.requests_per_s for point in own], "o-", label=kind)
    axes.set(xlabel="requests, all there at once", ylabel="requests/s", title="Throughput")
    _count_axis(axes, [point.num_requests for point in points])
    _log_axis(axes)


def _tokens(axes: "Axes", points: Sequence[RequestsPoint]) -> None:
    for kind in dict.fromkeys(point.kind for point in points):
        own = [point for point in points if point.kind == kind]
        each = [point.prompt_tokens_run / point.num_requests for point in own]
        axes.plot([point.num_requests for point in own], each, "o-", label=kind)
    axes.set(xlabel="requests, all there at once", ylabel="tokens", title="Prompt tokens run for a request")
    axes.set_ylim(0, 1.4 * axes.get_ylim()[1])  # room for the legend
    _count_axis(axes, [point.num_requests for point in points])


def _waiting(axes: "Axes", figures: GrowthFigures) -> None:
    for running in dict.fromkeys(point.num_running for point in figures.waiting):
        own = [point for point in figures.waiting if point.num_running == running]
        axes.plot(
            [point.num_waiting for point in own], [point.step_ms_p50 for point in own], "o-", label=f"{running} running"
        )
    axes.axhline(_SCHEDULER_BAR_MS, color="grey", linestyle=":", label="bar, with 10,000 waiting")
    axes.set(
        xlabel="requests that wait", ylabel="milliseconds a step, p50", title="Scheduler, planning and booking a step"
    )
    axes.set(ylim=(0, None))
    axes.set_xscale("symlog", linthresh=10)  # logarithmic, with a place for 0
    counts = sorted({point.num_waiting for point in figures.waiting})
    axes.set_xticks(counts, labels=[f"{count:,}" for count in counts])
    axes.set_xlim(left=-1)


def _count_axis(axes: "Axes", counts: Sequence[int]) -> None:
    """Logarithmic, with the counts themselves as its marks."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(counts)), labels=[f"{count:,}" for count in sorted(set(counts))])
    axes.minorticks_off()


def _log_axis(axes: "Axes") -> None:
    """Of values, in ordinary numbers."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()

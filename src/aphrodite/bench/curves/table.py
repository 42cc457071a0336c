"""The curves as tables in Markdown."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from aphrodite.bench.curves.figures import GrowthFigures, RequestsPoint, WaitingPoint
from aphrodite.bench.curves.requests import SHARED_PICTURE, SHARED_TEXT


def growth_tables(figures: GrowthFigures) -> str:
    """One for each curve."""
    batches = [(point.num_sequences, f"{point.step_ms:.2f}", f"{point.host_ms:.2f}") for point in figures.batches]
    contexts = [
        (
            point.num_tokens,
            f"{point.kv_cache_bytes / 1024:,.0f}",
            f"{point.resident_bytes / 1024**2:,.0f}",
            f"{point.step_ms:.2f}",
        )
        for point in figures.contexts
    ]
    tables = (
        _table(("sequences", "step, ms", "of it the host, ms"), batches),
        _table(
            (
                "context, tokens",
                "KV cache of a sequence, KiB",
                "process, MiB",
                f"step of {figures.num_sequences_of_contexts} sequences, ms",
            ),
            contexts,
        ),
        _requests(figures.requests),
        _waiting(figures.waiting),
    )
    return "\n\n".join(tables)


def _requests(points: Sequence[RequestsPoint]) -> str:
    kinds = list(dict.fromkeys(point.kind for point in points))
    found = {(point.kind, point.num_requests): point for point in points}
    hits = [kind for kind in (SHARED_TEXT, SHARED_PICTURE) if kind in kinds]

    def row(count: int) -> Iterator[object]:
        yield f"{count:,}"
        for kind in kinds:
            yield f"{found[kind, count].requests_per_s:,.1f}"
        for kind in hits:
            yield f"{found[kind, count].prefix_cache_hits:.1%}"
        if SHARED_PICTURE in hits:
            yield f"{found[SHARED_PICTURE, count].encoder_cache_hits:.1%}"

    header = ["requests", *(f"{kind}, requests/s" for kind in kinds), *(f"{kind}: its tokens found" for kind in hits)]
    if SHARED_PICTURE in hits:
        header.append(f"{SHARED_PICTURE}: not encoded anew")
    return _table(header, [tuple(row(count)) for count in dict.fromkeys(point.num_requests for point in points)])


def _waiting(points: Sequence[WaitingPoint]) -> str:
    def num_waiting(point: WaitingPoint) -> int:
        return point.num_waiting

    nums_running = list(dict.fromkeys(point.num_running for point in points))
    rows = [
        (f"{waiting:,}", *(f"{point.step_ms_p50:.3f} / {point.step_ms_p99:.3f}" for point in group))
        for waiting, group in groupby(sorted(points, key=num_waiting), num_waiting)
    ]
    return _table(("waiting", *(f"{running} running, ms p50 / p99" for running in nums_running)), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

"""The figures of an offline benchmark, for people."""

from collections.abc import Iterator

from aphrodite.bench.offline_figures import LimitFigures, OfflineFigures, PeerFigures
from aphrodite.bench.report import cells, line


def offline_table(figures: OfflineFigures) -> str:
    """In aligned lines."""
    return "\n".join(_lines(figures))


def _lines(figures: OfflineFigures) -> Iterator[str]:
    rounds = sorted(figures.round_s)
    tokens = f"{figures.prompt_tokens} tokens in, {figures.output_tokens} out"
    yield line("a round", f"{figures.num_requests} requests, {tokens}")
    yield line("duration", f"{rounds[0]:.2f} to {rounds[-1]:.2f} s in {len(rounds)} rounds; rates are of the median")
    yield line("requests/s", f"{figures.requests_per_s:.2f}")
    yield line("prompt tokens/s", f"{figures.prompt_tokens_per_s:.1f}")
    yield line("output tokens/s", f"{figures.output_tokens_per_s:.1f}")
    yield ""
    yield line("milliseconds", "".join(f"{name:>10}" for name in ("p50", "p90", "p99")))
    yield line("time to first token", cells(figures.time_to_first_token_ms))
    yield line("time per token", cells(figures.time_per_token_ms))
    yield line("whole answer", cells(figures.whole_answer_ms))
    yield ""
    yield from _limit_lines(figures.limit)
    if figures.peers:
        yield ""
        yield from map(_peer_line, figures.peers)
    if figures.phase_s is not None:
        yield ""
        yield from _phase_lines(figures.phase_s, figures.limit.num_steps)


def _limit_lines(limit: LimitFigures) -> Iterator[str]:
    yield line("device", limit.device)
    rates = f"{limit.bytes_per_s / 1e9:.1f} GB/s, {limit.operations_per_s / 1e12:.3f} TFLOP/s ({limit.dtype})"
    yield line("measured there", rates)
    work = f"{limit.num_bytes / 1e9:.2f} GB and {limit.num_operations / 1e12:.3f} TFLOP in {limit.num_steps:.0f} steps"
    yield line("these steps", work)
    yield line("limit", f"{limit.output_tokens_per_s:.1f} output tokens/s; {limit.reached:.1%} of it is reached")
    if limit.decode_step_ms is not None:
        yield line("limit of decoding", f"{limit.decode_step_ms:.3f} ms a step")


def _peer_line(peer: PeerFigures) -> str:
    agreement = f"tokens agree in {peer.requests_that_agree} of {peer.requests_compared} answers"
    return line(
        f"{peer.name}, {peer.dtype}",
        f"{peer.output_tokens_per_s:.1f} output tokens/s; ours is {peer.ratio:.2f} x; {agreement}",
    )


def _phase_lines(phase_s: dict[str, float], num_steps: float) -> Iterator[str]:
    total_s = sum(phase_s.values())
    yield f"{'share of a step':<28}{'ms':>10}{'%':>8}"
    for name, seconds in phase_s.items():
        yield f"{name:<28}{seconds / num_steps * 1000:>10.3f}{seconds / total_s:>8.1%}"

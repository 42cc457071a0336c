"""The figures of offline rounds, and of the peers beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from aphrodite.bench.figures import Percentiles, times_per_token_s, times_to_first_token_s
from aphrodite.bench.limit import DeviceRates, StepCost, total_limit_s
from aphrodite.bench.peers.peer import PeerRound
from aphrodite.bench.subject import Round


@dataclass(frozen=True)
class LimitFigures:
    """The shortest times that the device allows for the steps that were run; `reached` is their share of ours."""

    device: str
    dtype: str
    bytes_per_s: float
    operations_per_s: float
    num_steps: float  # the mean of the rounds, as all below
    num_bytes: float
    num_operations: float
    duration_s: float
    output_tokens_per_s: float
    reached: float
    num_decode_steps: float
    decode_step_ms: float | None  # of one token a sequence; None where no step was one


@dataclass(frozen=True)
class PeerFigures:
    """`ratio` is our output tokens a second to the peer's; tokens agree where an answer is the same to its end."""

    name: str
    dtype: str
    versions: dict[str, str]
    round_s: list[float]
    output_tokens_per_s: float
    ratio: float
    requests_that_agree: int
    requests_compared: int


@dataclass(frozen=True)
class OfflineFigures:
    """Rates are those of the median round; percentiles are over the requests of all rounds.

    Times count from the call of `generate`, and so include preparing the prompts. Time per token is that from an
    answer's first token to its last, divided by the tokens after the first.
    """

    num_requests: int  # in each round, as all counts
    prompt_tokens: int
    output_tokens: int
    round_s: list[float]
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    time_to_first_token_ms: Percentiles | None
    time_per_token_ms: Percentiles | None
    whole_answer_ms: Percentiles | None
    limit: LimitFigures
    peers: list[PeerFigures]
    phase_s: dict[str, float] | None = None  # seconds of one more round by what they went to


def round_seconds(rounds: Sequence[Round]) -> list[float]:
    """How long each took."""
    return [found.measurement.ended_s - found.measurement.started_s for found in rounds]


def summarize_rounds(
    rounds: Sequence[Round], limit: LimitFigures, peers: list[PeerFigures], phase_s: dict[str, float] | None
) -> OfflineFigures:
    """The figures of at least one round."""
    duration_s = median(round_seconds(rounds))
    one = rounds[0].measurement.answers
    answers = [answer for found in rounds for answer in found.measurement.answers]
    prompt_tokens = sum(answer.num_input_tokens for answer in one)
    output_tokens = sum(answer.num_output_tokens for answer in one)
    return OfflineFigures(
        num_requests=len(one),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        round_s=[round(seconds, 4) for seconds in round_seconds(rounds)],
        requests_per_s=round(len(one) / duration_s, 3),
        prompt_tokens_per_s=round(prompt_tokens / duration_s, 2),
        output_tokens_per_s=round(output_tokens / duration_s, 2),
        time_to_first_token_ms=Percentiles.of(times_to_first_token_s(answers)),
        time_per_token_ms=Percentiles.of(times_per_token_s(answers)),
        whole_answer_ms=Percentiles.of([answer.ended_s - answer.due_s for answer in answers]),
        limit=limit,
        peers=peers,
        phase_s=phase_s,
    )


def summarize_limit(rounds: Sequence[Round], device: str, dtype: str, rates: DeviceRates) -> LimitFigures:
    """The limit of the steps of all rounds, for the mean round."""
    count = len(rounds)
    steps: list[StepCost] = [step for found in rounds for step in found.steps]
    decode = [step.limit_s(rates) for step in steps if step.is_decode]
    limit_s = total_limit_s(steps, rates) / count
    output_tokens = sum(map(len, rounds[0].token_ids))
    return LimitFigures(
        device=device,
        dtype=dtype,
        bytes_per_s=round(rates.bytes_per_s),
        operations_per_s=round(rates.operations_per_s),
        num_steps=len(steps) / count,
        num_bytes=sum(step.num_bytes for step in steps) / count,
        num_operations=sum(step.num_operations for step in steps) / count,
        duration_s=limit_s,
        output_tokens_per_s=round(output_tokens / limit_s, 2),
        reached=round(limit_s / median(round_seconds(rounds)), 4),
        num_decode_steps=len(decode) / count,
        decode_step_ms=sum(decode) / len(decode) * 1000 if decode else None,
    )


def summarize_peer(
    name: str, dtype: str, versions: dict[str, str], peer: Sequence[PeerRound], ours: Sequence[Round]
) -> PeerFigures:
    """One peer's rounds beside ours of the same prompts."""
    pairs = [
        (own, other)
        for mine, theirs in zip(ours, peer, strict=True)
        for own, other in zip(mine.token_ids, theirs.token_ids, strict=True)
    ]
    output_tokens = sum(map(len, peer[0].token_ids))
    seconds = median(found.seconds for found in peer)
    own_rate = sum(map(len, ours[0].token_ids)) / median(round_seconds(ours))
    return PeerFigures(
        name=name,
        dtype=dtype,
        versions=versions,
        round_s=[round(found.seconds, 4) for found in peer],
        output_tokens_per_s=round(output_tokens / seconds, 2),
        ratio=round(own_rate * seconds / output_tokens, 4),
        requests_that_agree=sum(own == other for own, other in pairs),
        requests_compared=len(pairs),
    )

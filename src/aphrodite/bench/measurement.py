"""What a benchmark measures: when each request was due, had its first token, its last, and its end."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One request's life; times are seconds of one clock, any.

    `error` is None, or the kind of failure: "HTTP 429", "timeout", "connection", "refused", "error event", ...
    `due_s` is when the request was to be sent, so that a client that is late does not flatter the server.
    """

    due_s: float
    ended_s: float
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Measurement:
    """What a load gave: its answers in the order sent, and the seconds of each health check that succeeded."""

    started_s: float
    ended_s: float
    answers: Sequence[Answer]
    health_s: Sequence[float] = ()
    num_unhealthy: int = 0

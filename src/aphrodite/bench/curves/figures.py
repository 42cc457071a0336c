"""The points of the curves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchPoint:
    """So many sequences, each of which gets one token a step. Times are medians over the steps."""

    num_sequences: int
    step_ms: float
    host_ms: float  # of it neither the device's work nor waiting for it


@dataclass(frozen=True)
class ContextPoint:
    """A few sequences with this much context each."""

    num_tokens: int
    kv_cache_bytes: int  # in the blocks of one sequence
    resident_bytes: int  # the whole process in the host's memory
    step_ms: float  # all of them get one token


@dataclass(frozen=True)
class RequestsPoint:
    """So many requests, all there at once, through `LLM.generate`."""

    kind: str  # what they ask about
    num_requests: int
    requests_per_s: float
    output_tokens_per_s: float
    prompt_tokens_run: int  # in all; the others were found in the prefix cache
    prefix_cache_hits: float  # share of the tokens of all texts or pictures that they ask about
    encoder_cache_hits: float | None  # share of the pictures that were not encoded; None without pictures


@dataclass(frozen=True)
class WaitingPoint:
    """The scheduler alone: planning and booking a step in which some end and others take their place."""

    num_running: int
    num_waiting: int
    step_ms_p50: float
    step_ms_p99: float


@dataclass(frozen=True)
class GrowthFigures:
    """All curves of one engine."""

    dtype: str
    batches: list[BatchPoint]
    contexts: list[ContextPoint]
    num_sequences_of_contexts: int
    requests: list[RequestsPoint]
    waiting: list[WaitingPoint]

"""What a user gets back."""

from dataclasses import dataclass, field

import msgspec

from aphrodite.domain.generation.delta import FinishReason


class Logprob(msgspec.Struct, frozen=True, gc=False):  # there may be a million; the garbage collector visits none
    """One candidate at one position."""

    logprob: float  # natural logarithm of its probability
    rank: int  # 1: the most likely
    decoded_token: str | None = None  # `bytes:\\xf0` where its bytes are no text by themselves
    token_bytes: bytes | None = None  # what the token adds to a text


def shown_bytes(token_bytes: bytes) -> str:
    """A token's bytes as a string, that of other bytes never: `bytes:\\xf0` where they are no text by themselves."""
    try:
        return token_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_bytes)


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """When things happened to a request, in seconds on the engine's monotonic clock; None for what did not happen."""

    arrival_s: float
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None

    @property
    def queue_time_s(self) -> float | None:
        """From arrival until it was first scheduled."""
        return None if self.first_scheduled_s is None else self.first_scheduled_s - self.arrival_s

    @property
    def time_to_first_token_s(self) -> float | None:
        """From arrival until its first token was there."""
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One of the `n` completions of a prompt."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None  # of the tokens; None unless log-probabilities were asked for
    logprobs: list[dict[int, Logprob]] | None = None  # token id -> candidate, for each of `token_ids`
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None  # the stop token or stop string; None for the model's own end


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A prompt and its completions."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]  # the image expanded
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None  # for each prompt token; None for the first
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = False
    metrics: RequestMetrics | None = None
    num_cached_tokens: int = 0  # prompt tokens whose keys and values were in the prefix cache

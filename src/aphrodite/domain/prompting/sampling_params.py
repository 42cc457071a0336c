"""How a request's tokens are drawn and when it ends."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aphrodite.domain.errors import CheckpointError, SamplingParamsError
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

MAX_COMPLETIONS = 128
"""Most completions of one prompt."""

MAX_STOP_STRINGS = 64
"""Most stop strings of one request."""

MAX_STOP_CHARS = 8192
"""Most characters of all stop strings of one request: what looks for them has a state for each."""

MAX_LOGPROBS = 20
"""Most candidates reported beside each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """One request's sampling parameters, checked when built.

    Raises SamplingParamsError, which names the field and its range.
    """

    n: int = 1  # completions of one prompt
    temperature: float = 1.0  # 0 picks the most likely token
    top_p: float = 1.0  # nucleus sampling (arXiv 1904.09751); 0: the most likely token
    top_k: int = 0  # 0 or -1: all tokens
    min_p: float = 0.0  # share of the most likely token's probability (arXiv 2407.01082)
    presence_penalty: float = 0.0  # taken from the logit of a token that was generated
    frequency_penalty: float = 0.0  # taken from it as often as it was generated
    repetition_penalty: float = 1.0  # divides the logit of a token seen in prompt or output (arXiv 1909.05858)
    seed: int | None = None
    stop: str | tuple[str, ...] | list[str] = ()
    stop_token_ids: tuple[int, ...] | list[int] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 256  # None: as many as the context holds
    min_tokens: int = 0  # no end of sequence before these
    logprobs: int | None = None  # candidates beside each output token; 0: the chosen token's alone
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id -> added to its logit
    allowed_token_ids: tuple[int, ...] | list[int] | None = None
    structured_outputs: StructuredOutputs | None = None  # the form that the answer must have
    skip_special_tokens: bool = True
    detokenize: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_token_ids", _token_ids("stop_token_ids", self.stop_token_ids))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", _token_ids("allowed_token_ids", self.allowed_token_ids))
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "logit_bias", _logit_bias(self.logit_bias))
        _check_int("n", self.n, low=1, high=MAX_COMPLETIONS)
        _check_number("temperature", self.temperature, low=0.0, high=math.inf)
        _check_number("top_p", self.top_p, low=0.0, high=1.0)
        _check_int("top_k", self.top_k, low=-1)
        _check_number("min_p", self.min_p, low=0.0, high=1.0)
        _check_number("presence_penalty", self.presence_penalty, low=-2.0, high=2.0)
        _check_number("frequency_penalty", self.frequency_penalty, low=-2.0, high=2.0)
        _check_number("repetition_penalty", self.repetition_penalty, low=0.0, high=math.inf, open_low=True)
        if self.seed is not None:
            _check_int("seed", self.seed, low=-(2**63), high=2**64 - 1)
        if self.max_tokens is not None:
            _check_int("max_tokens", self.max_tokens, low=1)
        _check_int("min_tokens", self.min_tokens, low=0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise SamplingParamsError(
                f"min_tokens must be at most max_tokens ({self.max_tokens}), got {self.min_tokens}."
            )
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), low=0, high=MAX_LOGPROBS)
        for name in ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "detokenize"):
            if not isinstance(getattr(self, name), bool):
                raise SamplingParamsError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.stop and not self.detokenize:
            raise SamplingParamsError("stop needs text to look in; set detokenize=True.")
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise SamplingParamsError("allowed_token_ids must hold at least one token id, or be None.")
        if self.structured_outputs is not None:
            _check_structured_outputs(self.structured_outputs, self.allowed_token_ids)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0 or self.repetition_penalty != 1.0

    @property
    def has_bias(self) -> bool:
        return bool(self.logit_bias) or self.allowed_token_ids is not None

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises SamplingParamsError for a token id that the model does not have."""
        for name in ("stop_token_ids", "allowed_token_ids", "logit_bias"):
            for token_id in getattr(self, name) or ():
                if token_id >= vocab_size:
                    raise SamplingParamsError(f"{name} holds {token_id}, the vocabulary has {vocab_size} tokens.")

    @classmethod
    def from_generation_config(cls, generation_config: Mapping[str, Any]) -> "SamplingParams":
        """The model's own defaults, from its generation_config.json. Raises CheckpointError, which names the file."""
        values = {
            key: generation_config[key]
            for key in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            if generation_config.get(key) is not None
        }
        if not generation_config.get("do_sample", False):
            values = {"temperature": 0.0} | {k: v for k, v in values.items() if k == "repetition_penalty"}
        if generation_config.get("max_new_tokens") is not None:
            values["max_tokens"] = generation_config["max_new_tokens"]
        try:
            return cls(**values)
        except SamplingParamsError as error:
            raise CheckpointError(f"The model's generation_config.json is wrong: {error}") from error


def _check_structured_outputs(value: object, allowed_token_ids: object) -> None:
    if not isinstance(value, StructuredOutputs):
        raise SamplingParamsError(
            f"structured_outputs must be a StructuredOutputs, such as StructuredOutputs(json=...), got {_shown(value)}."
        )
    if allowed_token_ids is not None:
        raise SamplingParamsError("allowed_token_ids cannot be given beside structured_outputs: no token may be left.")


def _shown(value: object) -> str:
    """A user's value, short enough for a sentence."""
    return reprlib.repr(value)


def _check_int(name: str, value: object, low: int, high: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        span = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
        raise SamplingParamsError(f"{name} must be {span}, got {_shown(value)}.")


def _check_number(name: str, value: object, low: float, high: float, open_low: bool = False) -> None:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or value < low or value > high or (open_low and value == low):  # type: ignore[operator]
        bound = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise SamplingParamsError(f"{name} must be {bound}{upper}, got {_shown(value)}.")


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise SamplingParamsError(f"{name} must be a list of token ids, got {_shown(value)}.")
    for token_id in value:
        _check_int(f"a token id in {name}", token_id, low=0)
    return tuple(value)


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or not all(isinstance(s, str) and s for s in strings):
        raise SamplingParamsError(
            f"stop must be a string or a list of strings, none of them empty, got {_shown(value)}."
        )
    if len(strings) > MAX_STOP_STRINGS:
        raise SamplingParamsError(f"stop must hold at most {MAX_STOP_STRINGS} strings, got {len(strings)}.")
    num_chars = sum(map(len, strings))
    if num_chars > MAX_STOP_CHARS:
        raise SamplingParamsError(f"stop must hold at most {MAX_STOP_CHARS} characters in all, got {num_chars}.")
    return tuple(strings)


def _logit_bias(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise SamplingParamsError(f"logit_bias must map token ids to numbers, got {_shown(value)}.")
    for token_id, bias in value.items():
        _check_int("a token id in logit_bias", token_id, low=0)
        _check_number(f"logit_bias[{token_id}]", bias, low=-100.0, high=100.0)
    return dict(value)

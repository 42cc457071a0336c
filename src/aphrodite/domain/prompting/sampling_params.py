"""How a request's tokens are drawn and when it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from aphrodite.domain.errors import CheckpointError, SamplingParamsError
from aphrodite.domain.prompting.parameter import Parameter, check_int, check_number, shown, table_of
from aphrodite.domain.prompting.repetition import Repetition, token_ids
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
class SamplingParams(Repetition):
    """One request's sampling parameters, checked when built.

    Raises SamplingParamsError, which names the field and its range.
    """

    n: Annotated[int, Parameter("completions of one prompt", low=1, high=MAX_COMPLETIONS, kobold="n")] = 1
    presence_penalty: Annotated[
        float,
        Parameter(
            "taken from the logit of a token that was generated",
            low=-2,
            high=2,
            kobold="presence_penalty",
            ollama="presence_penalty",
        ),
    ] = 0.0
    frequency_penalty: Annotated[
        float,
        Parameter(
            "taken from the logit of a token as often as it was generated", low=-2, high=2, ollama="frequency_penalty"
        ),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        Parameter(
            "divides the logit of a token that prompt or answer hold, or multiplies it if negative",
            above=0,
            source="arXiv 1909.05858",
            kobold="rep_pen",
            ollama="repeat_penalty",
        ),
    ] = 1.0
    seed: Annotated[int | None, Parameter("fixes the draws", low=-(2**63), high=2**64 - 1, ollama="seed")] = None
    stop: str | tuple[str, ...] | list[str] = ()
    stop_token_ids: tuple[int, ...] | list[int] = ()
    include_stop_str_in_output: Annotated[bool, Parameter("shows the stop string that ended an answer")] = False
    ignore_eos: Annotated[bool, Parameter("goes on behind the end of the sequence", kobold="bypass_eos")] = False
    max_tokens: Annotated[int | None, Parameter("tokens of an answer; None: as many as the context holds", low=1)] = 256
    min_tokens: Annotated[int, Parameter("no end of the sequence before these", low=0)] = 0
    logprobs: Annotated[
        int | None, Parameter("candidates beside each token; 0: the chosen token's alone", low=0, high=MAX_LOGPROBS)
    ] = None
    prompt_logprobs: Annotated[int | None, Parameter("the same of the prompt's tokens", low=0, high=MAX_LOGPROBS)] = (
        None
    )
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id -> added to its logit
    allowed_token_ids: tuple[int, ...] | list[int] | None = None
    structured_outputs: StructuredOutputs | None = None  # the form that the answer must have
    skip_special_tokens: Annotated[bool, Parameter("leaves special tokens out of the text")] = True
    detokenize: Annotated[bool, Parameter("makes text of the tokens")] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_token_ids", token_ids("stop_token_ids", self.stop_token_ids))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", token_ids("allowed_token_ids", self.allowed_token_ids))
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "logit_bias", _logit_bias(self.logit_bias))
        for parameter in PARAMETERS.values():
            parameter.check(getattr(self, parameter.name))
        self.check_samplers()
        self.check_repetition()
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise SamplingParamsError(
                f"min_tokens must be at most max_tokens ({self.max_tokens}), got {self.min_tokens}."
            )
        if self.stop and not self.detokenize:
            raise SamplingParamsError("stop needs text to look in; set detokenize=True.")
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise SamplingParamsError("allowed_token_ids must hold at least one token id, or be None.")
        if self.structured_outputs is not None:
            _check_structured_outputs(self.structured_outputs, self.allowed_token_ids)
        if self.has_bans and (self.allowed_token_ids is not None or self.structured_outputs is not None):
            raise SamplingParamsError(
                "custom_token_bans, bad_words and no_repeat_ngram_size cannot be given beside allowed_token_ids or "
                "structured_outputs: no token may be left."
            )

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0 or self.repetition_penalty != 1.0

    @property
    def has_bias(self) -> bool:
        """Whether anything is added to logits, be it because of the tokens before."""
        is_allowed_all = self.allowed_token_ids is None
        return bool(self.logit_bias) or not is_allowed_all or self.has_history or bool(self.banned_token_ids)

    @property
    def has_mirostat(self) -> bool:
        return self.mirostat_mode == 2 and not self.greedy

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises SamplingParamsError for a token id that the model does not have."""
        for name in ("stop_token_ids", "allowed_token_ids", "logit_bias", "custom_token_bans"):
            for token_id in getattr(self, name) or ():
                if token_id >= vocab_size:
                    raise SamplingParamsError(f"{name} holds {token_id}, the vocabulary has {vocab_size} tokens.")
        for word in self.bad_words:
            if isinstance(word, str):
                raise SamplingParamsError("bad_words must be token ids here, where no text is known.")
            if max(word) >= vocab_size:
                raise SamplingParamsError(f"bad_words holds {max(word)}, the vocabulary has {vocab_size} tokens.")
        if len({*self.banned_token_ids, *self.stop_token_ids}) >= vocab_size:
            raise SamplingParamsError("custom_token_bans and bad_words must leave a token that may be drawn.")

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


PARAMETERS = table_of(SamplingParams)
"""The table of parameters by their names, those of Samplers first."""


def _check_structured_outputs(value: object, allowed_token_ids: object) -> None:
    if not isinstance(value, StructuredOutputs):
        raise SamplingParamsError(
            f"structured_outputs must be a StructuredOutputs, such as StructuredOutputs(json=...), got {shown(value)}."
        )
    if allowed_token_ids is not None:
        raise SamplingParamsError("allowed_token_ids cannot be given beside structured_outputs: no token may be left.")


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or not all(isinstance(s, str) and s for s in strings):
        raise SamplingParamsError(
            f"stop must be a string or a list of strings, none of them empty, got {shown(value)}."
        )
    if len(strings) > MAX_STOP_STRINGS:
        raise SamplingParamsError(f"stop must hold at most {MAX_STOP_STRINGS} strings, got {len(strings)}.")
    num_chars = sum(map(len, strings))
    if num_chars > MAX_STOP_CHARS:
        raise SamplingParamsError(f"stop must hold at most {MAX_STOP_CHARS} characters in all, got {num_chars}.")
    return tuple(strings)


def _logit_bias(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise SamplingParamsError(f"logit_bias must map token ids to numbers, got {shown(value)}.")
    for token_id, bias in value.items():
        check_int("a token id in logit_bias", token_id, low=0)
        check_number(f"logit_bias[{token_id}]", bias, low=-100.0, high=100.0)
    return dict(value)

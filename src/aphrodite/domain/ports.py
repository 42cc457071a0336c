"""What the domain asks of the outside: one Protocol a port.

Each has a fake in tests/fakes.py and a contract suite in tests/contract that the fake and every real adapter pass.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.errors import AphroditeError, FormError
from aphrodite.domain.generation.outputs import RequestOutput
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens
from aphrodite.domain.scheduling.bias import BiasChanges
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.domain.scheduling.step import StepPlan, StepResult


@dataclass(frozen=True, slots=True)
class BackendLimits:
    """What a backend can hold, found out when it was built."""

    num_blocks: int  # of the KV cache
    block_size: int  # tokens
    max_num_seqs: int  # slots
    max_num_batched_tokens: int  # tokens of one step
    max_model_len: int  # tokens of one sequence, prompt and output
    max_steps_in_flight: int  # 1: a step is done when `launch` returns; 2: the next may be launched before
    num_feature_rows: int  # images' features that are kept; those of one prompt fit
    bytes_per_number: int  # of weights, KV cache and features


@dataclass(frozen=True, slots=True)
class BackendDescription:
    """What a backend chose, in words for whoever starts it."""

    device: str  # "cpu", "cuda:0 (NVIDIA H100)"
    dtype: str
    dtype_reason: str  # why this number format: "as asked for", ...
    execution: str  # what runs a step, its attention above all
    num_threads: int | None  # on a CPU

    def __str__(self) -> str:
        threads = "" if self.num_threads is None else f", num_threads={self.num_threads}"
        return f"device={self.device!r}, dtype={self.dtype!r}{threads}"


class PendingStep(Protocol):
    """A step that was launched."""

    def result(self) -> StepResult:
        """Wait for the step. Raises StepError when it failed on the device, DeviceLostError as `launch` does."""


class HeldStep(Protocol):
    """A step that was launched but for its draw."""

    def draw(self, allowed: AllowedTokens, changes: BiasChanges) -> PendingStep:
        """Queue the draw, once, and before any later step is launched; first the slots' biases change, for good.

        Raises as `ComputeBackend.launch` does.
        """


class ComputeBackend(Protocol):
    """The hardware: holds weights, KV cache, image features and each slot's last sampled token."""

    limits: BackendLimits
    description: BackendDescription

    def warm_up(self) -> None:
        """Compile and capture every shape that steps will use."""

    def launch(self, plan: StepPlan) -> PendingStep:
        """Queue a step and return; what it sampled is asked of the PendingStep.

        A step that fails fails its own requests only: StepError, here or from `result`, leaves the backend usable.
        DeviceLostError leaves nothing: only another process can go on.
        """

    def hold(self, plan: StepPlan) -> HeldStep:
        """As `launch`, up to the logits: which tokens may be drawn is found out while the device works."""

    def close(self) -> None:
        """Give the device's memory back."""


class Tokenizer(Protocol):
    """Text to token ids and back."""

    vocab_size: int  # ids are below this
    max_token_chars: int  # most characters of a text that become one token
    eos_token_ids: frozenset[int]
    chat_template: str | None
    special_tokens: Mapping[str, str]  # bos_token, eos_token ... as chat templates know them

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def exceeds(self, text: str, num_tokens: int) -> bool:
        """Whether `text` has more tokens than that, at a cost that grows with `num_tokens` alone.

        False does not say that it has not; then its length is a small multiple at most, and `encode` is cheap, too.
        """

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...

    def showing(self, special_tokens: Collection[str]) -> "Tokenizer":
        """The same, but that its `decode` never skips these: they are marks within what a model says."""

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text, blanks and parts of characters as they are; b"" for an id without a token."""


class TokenMatcher(Protocol):
    """Where one sequence stands in the form that it must have."""

    def advance(self, token_id: int) -> None:
        """Go on by a token that was allowed, other than an end of sequence. Raises FormError."""

    def copy(self) -> "TokenMatcher":
        """Another one that stands here."""


class Grammars(Protocol):
    """Forms of answers as what they allow next. Belongs to one model's vocabulary."""

    def check(self, form: StructuredOutputs) -> CheckedForm:
        """Find out whether a form can be compiled, and at what cost; ends in bounded time. Thread-safe.

        Raises FormError, whose sentence says what cannot be compiled, and where; WorkerError when nothing can be found
        out.
        """

    def compile(self, checked: CheckedForm) -> TokenMatcher:
        """A matcher at the beginning. Thread-safe, and others go on meanwhile. Raises FormError."""

    def fill(self, matchers: Sequence[TokenMatcher], bits: np.ndarray) -> dict[int, FormError]:
        """Write into int32 [n, W] what each of n different matchers allows next, as AllowedTokens has it.

        Every end of sequence is allowed where the form is complete, and nowhere else. Returns what went wrong, by the
        matcher's index; what stands in its row then is nothing.
        """

    def close(self) -> None:
        """End what checks forms."""


class Processor(Protocol):
    """A validated prompt to what the engine runs: token ids with the image expanded, and pixels."""

    normalization: PixelNormalization | None  # None for a text-only model

    def process(self, prompt: Prompt) -> ProcessedPrompt:
        """Tokenise, decode and resize. Thread-safe.

        Raises PlaceholderError, ImageError or PromptError; never a foreign exception.
        """


class CheckpointSource(Protocol):
    """A model's files: its configuration and its weights."""

    config: Mapping[str, Any]  # config.json, complete: the family's defaults filled in
    generation_config: Mapping[str, Any]

    def names(self) -> Iterable[str]:
        """Every tensor's name; reads no tensor. Raises CheckpointError as `tensors` does."""

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor once, shard by shard, under the name it has in the checkpoint; bfloat16 as ml_dtypes has it.

        Raises CheckpointError for a damaged file.
        """


class ImageFetcher(Protocol):
    """Images by URL: http(s):, data: and, where allowed, file:."""

    def hold(self, url: str) -> AbstractAsyncContextManager[bytes]:
        """The bytes of the image file behind `url`, undecoded, in memory for as long as the block takes.

        What all hold together is bounded; who comes when there is no room waits for it. After that it enters the block
        or raises within a deadline. It does no slow work on the event loop, and may be cancelled.
        Raises ImageTooLargeError or an ImageFetchError; never a foreign exception.
        """

    async def close(self) -> None:
        """Give threads and connections back."""


class ImageReader(Protocol):
    """Image files of strangers to what the model reads of them."""

    async def start(self) -> None:
        """Make ready. Raises WorkerError."""

    async def read(self, data: bytes, settings: Mapping[str, Any]) -> object:
        """The picture in the bytes of an image file, decoded and resized, as a prompt's `multi_modal_data` takes it.

        `settings` are what a request puts in place of the image processor's own.

        No file holds the event loop, or takes more time and memory than a bound; may be cancelled. What it returns is
        shared: do not change it.

        Raises an ImageError that is no ImageFetchError, ProcessorSettingsError or WorkerError.
        """

    async def close(self) -> None:
        """Give processes back."""


class Metrics(Protocol):
    """Counts what a server does; whoever serves feeds it."""

    def note_engine(self, stats: EngineStats) -> None:
        """How the engine is now. Its counters may start anew, as they do with a new engine."""

    def note_output(self, output: RequestOutput) -> None:
        """A request has ended with this output; aborted completions count as such."""

    def note_error(self, error: AphroditeError) -> None:
        """A request has ended with an error."""

    def note_image_fetch(self, duration_s: float) -> None:
        """An image was fetched, or the attempt failed, after so many seconds."""


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request of HTTP that has ended, as a trace tells of it; never what was asked or answered."""

    name: str
    started_ns: int  # since 1970
    ended_ns: int
    headers: Mapping[str, str]  # of the request: `traceparent` says what it is a part of
    attributes: Mapping[str, str | int | float]
    has_failed: bool  # by the server's fault


class Tracer(Protocol):
    """Is told of every request once it has ended."""

    def trace(self, request: AnsweredRequest) -> None:
        """Never waits."""

    def close(self) -> None: ...


class Clock(Protocol):
    def now_s(self) -> float:
        """Seconds on a monotonic clock."""

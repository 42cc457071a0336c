"""A fake for every port, small and deterministic."""

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan
from aphrodite.domain.architectures.images.layout import FixedLayout, LaidOutImage, Tiles
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.errors import FormError, StepError
from aphrodite.domain.ports import BackendDescription, BackendLimits
from aphrodite.domain.prompting.prompts import (
    ProcessedPrompt,
    Prompt,
    check_placeholders,
    check_token_ids,
    expand_placeholders,
)
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs
from aphrodite.domain.scheduling.allowed_tokens import NOTHING_CONSTRAINED, AllowedTokens
from aphrodite.domain.scheduling.bias import NO_CHANGES, BiasChanges
from aphrodite.domain.scheduling.step import RowPlan, StepPlan, StepResult

EOS = 256
IMAGE_TOKEN = 257
VOCAB_SIZE = 258
LIMITS = BackendLimits(
    num_blocks=64,
    block_size=4,
    max_num_seqs=8,
    max_num_batched_tokens=32,
    max_model_len=128,
    max_steps_in_flight=1,
    num_feature_rows=64,
    bytes_per_number=1,
)


# The fake model. Each position's KV is a number made of the KV before it, of the token or the image feature that stands
# there and of its rotary position; the next token is made of all of them. So one wrong, stale or missing position
# changes what follows.


def fake_kv(before: int, content: bytes, rope_position: Sequence[int]) -> int:
    return zlib.crc32(b"%b at %d, %d, %d" % (content, *rope_position), before)


def fake_next_token(
    kv: Sequence[int], vocab_size: int, suppressed: Sequence[int] = (), bits: np.ndarray | None = None
) -> int:
    token_id = zlib.crc32(np.array(kv, dtype=np.int64).tobytes()) % vocab_size
    while token_id in suppressed or (bits is not None and not bits[token_id // 32] >> token_id % 32 & 1):
        token_id = (token_id + 1) % vocab_size
    return token_id


def token_content(token_id: int) -> bytes:
    return b"token %d" % token_id


def feature_content(content_hash: bytes, index: int) -> bytes:
    return b"feature %d of " % index + content_hash


@dataclass
class FakePendingStep:
    outcome: StepResult | StepError

    def result(self) -> StepResult:
        if isinstance(self.outcome, StepError):
            raise self.outcome
        return self.outcome


@dataclass
class FakeHeldStep:
    draw_it: Callable[[AllowedTokens, BiasChanges], FakePendingStep]

    def draw(self, allowed: AllowedTokens, changes: BiasChanges) -> FakePendingStep:
        return self.draw_it(allowed, changes)


class FakeBackend:
    """Runs the fake model over a paged cache. A step is done when launched, but its tokens show in `result` only.

    Set `failure` to have the next step fail: "launch" raises in `launch` and does nothing of it; "lost" and "late"
    raise in `result`, when "lost" has done nothing either, and "late" has done it all.
    """

    def __init__(self, limits: BackendLimits = LIMITS, vocab_size: int = VOCAB_SIZE) -> None:
        self.limits = limits
        self.description = BackendDescription("cpu", "int64", "as asked for", "numpy", None)
        self.failure: Literal["launch", "lost", "late"] | None = None
        self.plans: list[StepPlan] = []
        self.kv = np.full(limits.num_blocks * limits.block_size, -1, dtype=np.int64)
        self.features: list[bytes | None] = [None] * limits.num_feature_rows  # None: what a lost step should have made
        self.closed = False
        self.is_held = False
        self._vocab_size = vocab_size
        self._last_tokens = [0] * limits.max_num_seqs
        self._banned: list[set[int]] = [set() for _ in range(limits.max_num_seqs)]

    def warm_up(self) -> None:
        pass

    def launch(self, plan: StepPlan) -> FakePendingStep:
        return self.hold(plan).draw(NOTHING_CONSTRAINED, NO_CHANGES)

    def hold(self, plan: StepPlan) -> FakeHeldStep:
        assert not self.is_held, "a step was launched before the draw of the one before"
        failure, self.failure = self.failure, None
        self.plans.append(plan)
        if failure == "launch":
            raise StepError("The step could not be launched.")
        for image in plan.encode:
            for index, row in enumerate(image.rows.tolist()):
                lost = failure == "lost"
                self.features[row] = None if lost else feature_content(image.image.content_hash, index)

        self.is_held = True

        def draw(allowed: AllowedTokens, changes: BiasChanges) -> FakePendingStep:
            self.is_held = False
            result = None if failure == "lost" else self._run(plan, allowed, changes)
            return FakePendingStep(result if result and failure is None else StepError("The step failed."))

        return FakeHeldStep(draw)

    def close(self) -> None:
        self.closed = True

    def _run(self, plan: StepPlan, allowed: AllowedTokens, changes: BiasChanges) -> StepResult:
        self._change_bans(plan, changes)
        sampled: list[int] = []
        bits = dict(zip(allowed.samples.tolist(), allowed.bits.view(np.uint32), strict=True))
        decode = plan.decode
        for index, (slot, start) in enumerate(zip(decode.slots.tolist(), decode.starts.tolist(), strict=True)):
            blocks, suppressed = decode.block_table[index], decode.suppressed[decode.suppressed[:, 0] == index, 1]
            rope = np.full((3, 1), start + decode.rope_offsets[index])
            self._fill(blocks, start, [token_content(self._last_tokens[slot])], rope)
            banned = self._banned[slot] if decode.sampling[index, 0] else ()  # whether the row has a bias
            never = (*suppressed.tolist(), *banned)
            sampled.append(self._sample(slot, blocks, start + 1, never, bits.get(len(sampled))))
        for row in plan.prompts:
            rope = row.rope_positions
            if rope is None:
                rope = np.tile(np.arange(row.start, row.start + row.num_tokens), (3, 1))
            self._fill(row.block_ids, row.start, self._contents(row), rope)
            if row.samples:
                stop = row.start + row.num_tokens
                of_row = bits.get(len(sampled))
                banned = self._banned[row.slot] if row.sampling.has_bias else ()
                never = (*row.suppressed_token_ids, *banned)
                sampled.append(self._sample(row.slot, row.block_ids, stop, never, of_row))
        return StepResult(np.array(sampled, dtype=np.int32), None, {})

    def _change_bans(self, plan: StepPlan, changes: BiasChanges) -> None:
        """Of biases the fake model knows those that leave a token no chance."""
        for row in plan.prompts:
            if row.slot_start is not None:
                self._banned[row.slot] = set(row.sampling.banned_token_ids)
        for slot, token_id, value in zip(
            changes.slots.tolist(), changes.token_ids.tolist(), changes.values, strict=True
        ):
            if value == -np.inf:
                self._banned[slot].add(token_id)
            else:
                self._banned[slot].discard(token_id)

    def _contents(self, row: RowPlan) -> list[bytes]:
        if row.token_ids is None or len(row.token_ids) != row.num_tokens:
            raise StepError("A row has another number of tokens than it says.")
        contents = [token_content(token_id) for token_id in row.token_ids.tolist()]
        for index, feature_row in enumerate([] if row.feature_rows is None else row.feature_rows.tolist()):
            feature = self.features[feature_row] if feature_row >= 0 else contents[index]
            if feature is None:
                raise StepError("The features of an image are not there.")
            contents[index] = feature
        for index, until in enumerate([] if row.visible_until is None else row.visible_until.tolist()):
            if until > row.start + row.num_tokens:
                raise StepError("A token sees others that are not in its row.")
            if until:  # what it sees behind itself becomes a part of what it is
                contents[index] = b"".join(contents[index : until - row.start])
        return contents

    def _cells(self, block_ids: np.ndarray, stop: int) -> np.ndarray:
        positions, size = np.arange(stop), self.limits.block_size
        return block_ids[positions // size] * size + positions % size

    def _fill(self, block_ids: np.ndarray, start: int, contents: list[bytes], rope: np.ndarray) -> None:
        cells = self._cells(block_ids, start + len(contents))
        for position, content, at in zip(range(start, len(cells)), contents, rope.T.tolist(), strict=True):
            before = int(self.kv[cells[position - 1]]) if position else 0
            self.kv[cells[position]] = fake_kv(before & 0xFFFFFFFF, content, at)

    def _sample(
        self, slot: int, block_ids: np.ndarray, stop: int, suppressed: Sequence[int], bits: np.ndarray | None
    ) -> int:
        kv = self.kv[self._cells(block_ids, stop)].tolist()
        self._last_tokens[slot] = fake_next_token(kv, self._vocab_size, suppressed, bits)
        return self._last_tokens[slot]


class FakeMatcher:
    """The end of one of several texts, a byte a token."""

    def __init__(self, left: list[bytes]) -> None:
        self.left = left

    def advance(self, token_id: int) -> None:
        self.left = [text[1:] for text in self.left if text[:1] == bytes([token_id])]
        if not self.left:
            raise FormError("structured_outputs.choice does not go on like this.")

    def copy(self) -> "FakeMatcher":
        return FakeMatcher(self.left)

    def next_ids(self) -> set[int]:
        return {text[0] if text else EOS for text in self.left}


class FakeGrammars:
    """Choices alone."""

    def check(self, form: StructuredOutputs) -> CheckedForm:
        if form.choice is None:
            raise FormError(f"structured_outputs.{form.kind} is nothing that a fake can compile.")
        return CheckedForm(form, "", form.num_chars)

    def compile(self, checked: CheckedForm) -> FakeMatcher:
        return FakeMatcher([text.encode() for text in checked.form.choice or ()])

    def fill(self, matchers: Sequence[FakeMatcher], bits: np.ndarray) -> dict[int, FormError]:
        for row, matcher in zip(bits, matchers, strict=True):
            flags = np.zeros(32 * len(row), np.uint8)
            flags[list(matcher.next_ids())] = 1
            row[:] = np.packbits(flags, bitorder="little").view(np.int32)
        return {}

    def close(self) -> None:
        pass


class FakeTokenizer:
    """A byte a token; then the end of sequence and the image."""

    vocab_size = VOCAB_SIZE
    max_token_chars = len("<image>")
    eos_token_ids = frozenset({EOS})
    chat_template: str | None = None
    special_tokens: Mapping[str, str] = {"eos_token": "</s>", "image_token": "<image>"}
    shown: Collection[str] = ()

    def showing(self, special_tokens: Collection[str]) -> "FakeTokenizer":
        other = FakeTokenizer()
        other.shown = special_tokens
        return other

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        before, *after = text.split("<image>")
        return [*before.encode(), *(token for part in after for token in (IMAGE_TOKEN, *part.encode()))]

    def exceeds(self, text: str, num_tokens: int) -> bool:
        return len(text) > self.max_token_chars * num_tokens

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        special = {EOS: b"</s>", IMAGE_TOKEN: b"<image>"}
        if skip_special_tokens:
            special = {token_id: token for token_id, token in special.items() if token.decode() in self.shown}
        pieces = (special.get(token_id, b"") if token_id > 255 else bytes([token_id]) for token_id in token_ids)
        return b"".join(pieces).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return {EOS: b"</s>", IMAGE_TOKEN: b"<image>"}.get(token_id) or bytes([token_id])


class FakeProcessor:
    """Every picture is six tokens; pictures are uint8 arrays."""

    normalization: PixelNormalization | None = None
    layout = FixedLayout(IMAGE_TOKEN, num_features=6)

    def process(self, prompt: Prompt) -> ProcessedPrompt:
        token_ids = list(prompt.token_ids) if prompt.token_ids else FakeTokenizer().encode(prompt.text or "")
        check_token_ids(token_ids, VOCAB_SIZE)
        check_placeholders(token_ids, IMAGE_TOKEN, "<image>", len(prompt.images))
        images = [self._read(np.asarray(image)) for image in prompt.images]
        return ProcessedPrompt(
            prompt.text, *expand_placeholders(token_ids, IMAGE_TOKEN, images, FakeTokenizer().encode)
        )

    def _read(self, pixels: np.ndarray) -> tuple[LaidOutImage, ImageInput]:
        laid_out = self.layout.lay_out(*pixels.shape[:2], Tiles(1))
        content_hash = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        return laid_out, ImageInput(pixels.reshape(1, -1), laid_out.plan, content_hash)


def fake_span(
    content: bytes, start: int, num_tokens: int, grid: tuple[int, int] | None = None, *, sees_forward: bool = False
) -> ImageSpan:
    """An image whose tokens all take a feature."""
    laid_out = FixedLayout(IMAGE_TOKEN, num_tokens).lay_out(1, 1, Tiles(1))
    image = ImageInput(np.zeros((1, 3), np.uint8), laid_out.plan, content)
    return ImageSpan(image, start, np.ones(num_tokens, bool), grid, sees_forward)


@dataclass
class FakeCheckpoint:
    config: Mapping[str, Any] = field(default_factory=dict)
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    def names(self) -> Iterable[str]:
        return self.weights

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from self.weights.items()


@dataclass
class FakeClock:
    """Stands still unless told to move on."""

    time_s: float = 0.0

    def now_s(self) -> float:
        return self.time_s

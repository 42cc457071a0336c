"""Packs several conversations about one picture into one training row, so that the picture is encoded once for all.

    segment:   0 0 0 0 0 0 0   1 1 1 1 1 1   2 2 2 2 2 2   -1 -1 -1 -1   padding
    tokens:    <s>USER: <img>  \\nHow many..  \\nWhat is..   <s>USER: Hi   <pad>
               shared prefix   conversation  conversation  text only

A token sees earlier tokens of its own segment; those of a positive segment see the shared prefix, segment 0, too.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import LlavaProcessor

import scene_labels
from demo_format import BOS, EOS, IMAGE, IMAGE_SIZE, NUM_PATCHES, SYSTEMS
from drawings import Drawing, draw
from questions import Question, inventory, questions
from small_talk import FALLBACK, small_talk

NUM_QUESTIONS = 6
MAX_SHARED_TOKENS = 220  # a row takes no further conversation beyond; attention costs their square
IGNORED = -100
PADDING_SEGMENT = -1000
GAPS = (" ", "\n")  # before "ASSISTANT:"


@dataclass(frozen=True, slots=True)
class Row:
    """One picture and its conversations, T tokens."""

    pixels: npt.NDArray[np.uint8]  # [IMAGE_SIZE, IMAGE_SIZE, 3]
    labels: scene_labels.SceneLabels
    token_ids: list[int]  # [T]
    targets: list[int]  # [T], the next token where it belongs to an answer, else IGNORED
    positions: list[int]  # [T]
    segments: list[int]  # [T]


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows, padded to T tokens."""

    pixels: torch.Tensor  # [B, IMAGE_SIZE, IMAGE_SIZE, 3] uint8
    labels: dict[str, torch.Tensor]  # [B, NUM_PATCHES] or [B]
    token_ids: torch.Tensor  # [B, T]
    targets: torch.Tensor  # [B, T]
    positions: torch.Tensor  # [B, T]
    segments: torch.Tensor  # [B, T]

    def to(self, device: str) -> "Batch":
        """The same batch on another device."""
        labels = {name: one.to(device) for name, one in self.labels.items()}
        others = (self.token_ids, self.targets, self.positions, self.segments)
        return Batch(self.pixels.to(device), labels, *(one.to(device) for one in others))


def draw_small(seed: int) -> Drawing:
    """Drawing number `seed`, squashed to IMAGE_SIZE as the image processor does it."""
    drawing = draw(seed)
    return Drawing(drawing.image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), drawing.scene)


class Rows(Dataset[Row]):
    """The rows of these numbers, each a pure function of its number: drawing number n and its questions."""

    def __init__(self, processor: LlavaProcessor, numbers: Sequence[int]) -> None:
        self._tokenizer = processor.tokenizer
        self._numbers = numbers
        self._encode = lru_cache(100_000)(self._encode_uncached)

    def __len__(self) -> int:
        return len(self._numbers)

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def __getitem__(self, index: int) -> Row:
        number = self._numbers[index]
        drawing = draw_small(number)
        rng = random.Random(f"row {number}")
        asked = balance(questions(drawing, rng), rng)
        if drawing.scene.things and rng.random() < 0.6:
            asked.append(inventory(drawing.scene, rng))
        rng.shuffle(asked)
        builder = RowBuilder()
        system = rng.choice(SYSTEMS) if rng.random() < 0.1 else ""
        start = (BOS if rng.random() < 0.9 else "") + system + "USER: "
        if rng.random() < 0.06:  # the question first, so that the picture's tokens cannot be shared
            one = asked[0]
            builder.extend(0, self._encode(f"{start}{one.text}\n"))
            builder.extend(0, self._encode(IMAGE) * NUM_PATCHES)
            self._answer(builder, 1, rng.choice(GAPS) + "ASSISTANT:", one)
        else:
            builder.extend(0, self._encode(start) + self._encode(IMAGE) * NUM_PATCHES)
            segment = 0
            while asked and len(builder.token_ids) < MAX_SHARED_TOKENS:
                segment += 1
                text = "\n"
                for _ in range(rng.choice((1, 1, 1, 2, 3))):  # turns of one conversation
                    if asked:
                        one = asked.pop()
                        self._answer(builder, segment, f"{text}{one.text}{rng.choice(GAPS)}ASSISTANT:", one)
                        text = "USER: "
        if rng.random() < 0.5:
            start = BOS if rng.random() < 0.9 else ""
            one = small_talk(rng)
            # A bare prompt without the chat format gets the fallback as well.
            bare = one.answer == FALLBACK and rng.random() < 0.3
            text = one.text if bare else f"USER: {one.text}{rng.choice(GAPS)}ASSISTANT:"
            self._answer(builder, -1, start + text, one)
        return Row(
            np.asarray(drawing.image),
            scene_labels.label(drawing.scene),
            builder.token_ids,
            builder.targets,
            builder.positions,
            builder.segments,
        )

    def _answer(self, builder: "RowBuilder", segment: int, text: str, question: Question) -> None:
        builder.extend(segment, self._encode(text))
        builder.extend(segment, self._encode(f" {question.answer}{EOS}"), is_answer=True)


class RowBuilder:
    """Grows the four lists of a row side by side."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.targets: list[int] = []
        self.positions: list[int] = []
        self.segments: list[int] = []

    def extend(self, segment: int, token_ids: tuple[int, ...], is_answer: bool = False) -> None:
        """Append tokens to a segment: the last one written, or a new one."""
        if self.segments and self.segments[-1] == segment:
            start = self.positions[-1] + 1
        else:
            start = self.segments.count(0) if segment > 0 else 0
        if is_answer:
            self.targets[-1] = token_ids[0]
        self.targets += [*token_ids[1:], IGNORED] if is_answer else [IGNORED] * len(token_ids)
        self.token_ids += token_ids
        self.positions += range(start, start + len(token_ids))
        self.segments += [segment] * len(token_ids)


def balance(asked: list[Question], rng: random.Random) -> list[Question]:
    """At most `NUM_QUESTIONS` questions, those of the kinds that are slow to learn first."""
    weights = {"content": 0.2, "position": 0.4, "shape": 0.6, "size": 0.6, "yes/no": 1.5, "color": 1.5}
    ranked = sorted(asked, key=lambda question: rng.random() * weights.get(question.kind, 1.0))
    return ranked[:NUM_QUESTIONS]


def collate(rows: list[Row]) -> Batch:
    """Pad rows to the longest, rounded up to a multiple of 16 tokens."""
    length = -(-max(len(row.token_ids) for row in rows) // 16) * 16

    def pad(values: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([one + [filler] * (length - len(one)) for one in values])

    return Batch(
        torch.from_numpy(np.stack([row.pixels for row in rows])),
        {name: torch.stack([row.labels[name] for row in rows]) for name in scene_labels.NUM_CLASSES},
        pad([row.token_ids for row in rows], 0),
        pad([row.targets for row in rows], IGNORED),
        pad([row.positions for row in rows], 0),
        pad([row.segments for row in rows], PADDING_SEGMENT),
    )


def visible(segments: torch.Tensor) -> torch.Tensor:
    """Which token sees which: [B, T] segments to a boolean mask [B, 1, T, T] of (seeing, seen)."""
    seeing, seen = segments[:, :, None], segments[:, None, :]
    allowed = (seeing == seen) | ((seen == 0) & (seeing > 0))
    return allowed.tril()[:, None]

"""Prompts of many lengths, and random pictures to go with them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

TEXTS = (
    "Hi",
    "What's the color of this image?",
    "The quick brown fox jumps over the lazy dog while 0123456789 numbers pass. How many circles are there?",
    "naïve café, £3.50 — \N{SNOWMAN}",
)


@dataclass(frozen=True)
class Case:
    """A prompt; `picture` is the seed of its picture."""

    prompt: str
    picture: int | None = None

    @cached_property
    def image(self) -> Image.Image | None:
        return None if self.picture is None else draw(self.picture)

    @property
    def inputs(self) -> Any:
        """As `LLM.generate` takes it."""
        return self.prompt if self.image is None else {"prompt": self.prompt, "multi_modal_data": {"image": self.image}}


def draw(seed: int) -> Image.Image:
    """A picture of coarse random colours, 20 to 90 pixels a side."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(20, 90, size=2))
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def about(picture: int, question: str = "What is the content of this image?") -> Case:
    """A question about a picture, in LLaVA's format."""
    return Case(f"USER: <image>\n{question}\nASSISTANT:", picture)


TEXT_CASES = tuple(Case(text) for text in TEXTS)
IMAGE_CASES = (about(1), about(2, "How many?"), Case("<image>", 3), Case(TEXTS[2] + "<image>" + TEXTS[3], 1))

"""The prompts of a benchmark: random words, and for each prompt a random picture."""

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

_WORDS = (
    "apple bird blue boat book bread bridge bright child city clear cloud cold cup dark deep door dry early east field "
    "fire fish flower garden glass gold grass green hand hill horse house ice island kind lake lamp large leaf light "
    "long map milk moon north old paper plain quick quiet rain red river road rock salt sea ship silver sky slow small "
    "snow soft song south star stone street summer sun sweet table tall thin tree warm water west white wind winter "
    "wood yellow young"
)
_PATCHES = 8  # random colours along each side of a picture


@dataclass(frozen=True)
class Workload:
    """What is asked. The same seed gives the same prompts; no two prompts of one workload are alike.

    `image_size` is (width, height) in pixels, or None for text alone; `output_tokens` is the most for each answer, and
    with `ignore_eos` also the least.
    """

    num_requests: int
    input_words: int
    image_size: tuple[int, int] | None
    output_tokens: int
    ignore_eos: bool
    seed: int

    @cached_property
    def conversations(self) -> list[list[dict[str, Any]]]:
        """One for each request, as chat messages."""
        return [self._conversation(index) for index in range(self.num_requests)]

    @cached_property
    def warm_up(self) -> list[dict[str, Any]]:
        """One conversation more, whose answer is not measured."""
        return self._conversation(self.num_requests)

    def _conversation(self, index: int) -> list[dict[str, Any]]:
        random = np.random.default_rng((self.seed, index))
        text = " ".join(random.choice(_WORDS.split(), self.input_words))
        if self.image_size is None:
            return [{"role": "user", "content": text}]
        picture = {"type": "image_url", "image_url": {"url": _data_url(draw_picture(random, self.image_size))}}
        return [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]


def draw_picture(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Blurred patches of random colours, (width, height) pixels."""
    patches = random.integers(0, 256, (_PATCHES, _PATCHES, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def _data_url(picture: Image.Image) -> str:
    """As a JPEG, which of blurred patches has a photograph's weight; noise would weigh several times as much."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

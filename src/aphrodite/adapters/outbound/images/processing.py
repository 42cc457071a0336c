"""What the model's image processor makes of a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True)
class ResizedImage:
    """A picture as the vision tower reads it."""

    width: int  # of the picture before, in pixels
    height: int
    tiles: np.ndarray  # uint8 [S, size, size, 3]
    content_hash: bytes  # over the picture's pixels before, the processor's settings and the model
    rows: int = 0  # of tiles, where the processor says how it cut a grid of them
    columns: int = 0


class ImageProcessing(Protocol):
    """A model's image processor, loaded."""

    target_edge: int | None  # pixels of the longest edge that a picture's shorter edge is resized to; None: it depends

    def with_settings(self, settings: Mapping[str, Any]) -> "ImageProcessing":
        """The same with a request's settings in place of its own. Raises ProcessorSettingsError."""

    def resize(self, picture: Image.Image) -> ResizedImage:
        """Of an RGB picture. Thread-safe. Raises ImageError for one of a shape that the model cannot read."""

"""How a family's images stand in a prompt."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aphrodite.domain.architectures.images.image import PatchPlan


@dataclass(frozen=True, slots=True)
class LaidOutImage:
    """The tokens of an image of a certain size, and its plan."""

    token_ids: tuple[int, ...]
    is_feature: np.ndarray  # bool [tokens]
    plan: PatchPlan


class ImageLayout(Protocol):
    """What a family says of its images."""

    @property
    def placeholder_id(self) -> int:
        """The token that stands for an image in a prompt until it is expanded."""

    @property
    def max_segments(self) -> int:
        """Most segments of one image."""

    def lay_out(self, width: int, height: int, num_tiles: int) -> LaidOutImage:
        """An image that had so many pixels, and of which the image processor made so many tiles. Raises ImageError."""


@dataclass(frozen=True, slots=True)
class FixedLayout:
    """Every image is one tile and takes the same number of tokens, each a feature."""

    placeholder_id: int
    num_features: int

    @property
    def max_segments(self) -> int:
        return 1

    def lay_out(self, width: int, height: int, num_tiles: int) -> LaidOutImage:  # noqa: ARG002
        return LaidOutImage(
            token_ids=(self.placeholder_id,) * self.num_features,
            is_feature=np.ones(self.num_features, bool),
            plan=PatchPlan(num_tiles, np.arange(self.num_features, dtype=np.int32)),
        )

"""How a family's images stand in a prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from aphrodite.domain.architectures.images.image import PatchPlan
from aphrodite.domain.errors import ImageError

_FAKE_TOKEN = "<fake_token_around_image>"


class Tiles(NamedTuple):
    """How the image processor cut an image."""

    num_tiles: int
    rows: int = 0  # of the grid, beside the picture of the whole; 0: no grid, or one that the layout finds by itself
    columns: int = 0
    height: int = 0  # of a tile, in patches
    width: int = 0

    @property
    def segments(self) -> np.ndarray:
        """Each tile as a segment."""
        return np.full(self.num_tiles, self.height * self.width, np.int32)


@dataclass(frozen=True, slots=True)
class LaidOutImage:
    """What stands in a prompt for an image of a certain size, and its plan."""

    pieces: tuple[str | int, ...]  # text between the features, and how many features follow each other
    plan: PatchPlan
    order: np.ndarray | None = None  # int32 [P] of the patches; None: row by row, tile after tile
    grid: tuple[int, int] | None = None  # see ImageSpan
    feature_id: int | None = None  # the token where a feature stands; None: the one that stood for the image

    def tokens(self, placeholder_id: int, encode: Callable[[str], Sequence[int]]) -> tuple[list[int], np.ndarray]:
        """Token ids, and bool [tokens]: which of them take a feature; `encode` makes token ids of text."""
        feature_id = placeholder_id if self.feature_id is None else self.feature_id
        token_ids: list[int] = []
        is_feature: list[bool] = []
        for piece in self.pieces:
            ids = [feature_id] * piece if isinstance(piece, int) else list(encode(piece))
            token_ids += ids
            is_feature += [isinstance(piece, int)] * len(ids)
        return token_ids, np.array(is_feature, bool)


class ImageLayout(Protocol):
    """What a family says of its images."""

    @property
    def placeholder_id(self) -> int:
        """The token that stands for an image in a prompt until it is expanded."""

    @property
    def max_units(self) -> int:
        """Most segments of one image, or most patches where a tower is packed."""

    @property
    def processor_options(self) -> Mapping[str, Any]:
        """What the family asks of its image processor, whatever the folder says."""

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:
        """An image that had so many pixels, and of which the image processor made these tiles. Raises ImageError."""


@dataclass(frozen=True, slots=True)
class FixedLayout:
    """Every image is one tile and takes the same number of features, between the same words."""

    placeholder_id: int
    num_features: int
    before: str = ""
    after: str = ""
    feature_id: int | None = None  # see LaidOutImage

    @property
    def max_units(self) -> int:
        return 1

    @property
    def processor_options(self) -> Mapping[str, Any]:
        return {}

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:  # noqa: ARG002
        """Raises ImageError where the image processor cuts more tiles than one."""
        _check_num_tiles(tiles, 1)
        plan = PatchPlan(tiles.segments, np.arange(self.num_features, dtype=np.int32))
        pieces = tuple(piece for piece in (self.before, self.num_features, self.after) if piece != "")
        return LaidOutImage(pieces, plan, feature_id=self.feature_id)


@dataclass(frozen=True, slots=True)
class TilesLayout:
    """Tiles one after the other, between two marks; how many there are is the image processor's to say."""

    placeholder_id: int
    features_per_tile: int
    max_units: int
    start: str
    end: str
    processor_options: Mapping[str, Any]

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:  # noqa: ARG002
        """Raises ImageError where the image processor cuts more tiles than there is room for."""
        _check_num_tiles(tiles, self.max_units)
        num_features = tiles.num_tiles * self.features_per_tile
        plan = PatchPlan(tiles.segments, np.arange(num_features, dtype=np.int32))
        return LaidOutImage((self.start, num_features, self.end), plan)


@dataclass(frozen=True, slots=True)
class LabelledTilesLayout:
    """Tiles row by row, each behind the words that say where it lies, and the picture of the whole after them.

    As Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299) have it; a picture as small as a tile is one alone.
    """

    placeholder_id: int
    features_per_tile: int
    max_units: int

    @property
    def processor_options(self) -> Mapping[str, Any]:
        return {}

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:  # noqa: ARG002
        """Raises ImageError where the image processor cuts more tiles than there are labels for."""
        _check_num_tiles(tiles, self.max_units)
        pieces: list[str | int] = []
        for row in range(tiles.rows):
            for column in range(tiles.columns):
                line_break = "\n" if row and not column else ""
                pieces.append(f"{line_break}{_FAKE_TOKEN}<row_{row + 1}_col_{column + 1}>")
                pieces.append(self.features_per_tile)
        line_breaks = "\n\n" if tiles.rows else ""
        pieces += [f"{line_breaks}{_FAKE_TOKEN}<global-img>", self.features_per_tile, _FAKE_TOKEN]
        num_features = tiles.num_tiles * self.features_per_tile
        return LaidOutImage(tuple(pieces), PatchPlan(tiles.segments, np.arange(num_features, dtype=np.int32)))


def _check_num_tiles(tiles: Tiles, most: int) -> None:
    if tiles.num_tiles > most:
        raise ImageError(
            f"The model's image processor cuts this image into {tiles.num_tiles} tiles; the most are {most}."
        )

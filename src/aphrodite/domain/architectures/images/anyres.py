"""Images of any resolution as a small picture of the whole and a grid of tiles (LLaVA-NeXT, LLaVA-OneVision).

The grid is the best of the sizes that the model was trained with; the picture is scaled to fit it and padded. Features
of the padding are left out, and a learned vector ends each row of those that stay.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aphrodite.domain.architectures.images.image import PatchPlan
from aphrodite.domain.architectures.images.layout import LaidOutImage, Tiles
from aphrodite.domain.architectures.images.positions import neighbours
from aphrodite.domain.errors import ImageError

_TOLERATED = 1.1  # times what a side may have
_ALONE = np.array([1, 0, 0, 0], np.float32)  # the weights of a feature that is one row
NEWLINE = -1
"""The tap of the learned vector that ends a row."""


@dataclass(frozen=True, slots=True)
class AnyResLayout:
    """Implements `ImageLayout`."""

    placeholder_id: int
    grid_sizes: tuple[tuple[int, int], ...]  # pixels, (height, width)
    tile_size: int  # pixels on a side
    tile_side: int  # features on a side of a tile
    max_tiles: int | None = None  # a grid with more features than so many tiles have is shrunk to about as many

    @property
    def max_units(self) -> int:
        return 1 + max(self._num_tiles(size) for size in self.grid_sizes)

    @property
    def processor_options(self) -> Mapping[str, Any]:
        return {}

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:
        """Raises ImageError where the image processor cut the picture otherwise than the model was trained."""
        grid = best_grid(width, height, self.grid_sizes)
        if tiles.num_tiles != 1 + self._num_tiles(grid):
            raise ImageError("The model's image processor cuts this image into other tiles than the model knows.")
        whole = np.arange(self.tile_side**2, dtype=np.int32)
        rows = unpadded(self._grid_rows(grid), width, height)
        if self.max_tiles is None:
            ends = np.full((len(rows), 1), NEWLINE, np.int32)
            taps = np.concatenate((whole, np.concatenate((rows, ends), axis=1).flatten()))
            return LaidOutImage((len(taps),), PatchPlan(tiles.segments, taps))
        inner, weights = shrunk(rows, self.max_tiles * self.tile_side**2)  # [rows, columns, 4]
        end = (len(inner), 1, 4)
        inner = np.concatenate((inner, np.full(end, NEWLINE, np.int32)), axis=1).reshape(-1, 4)
        weights = np.concatenate((weights, np.broadcast_to(_ALONE, end)), axis=1).reshape(-1, 4)
        taps = np.concatenate((np.repeat(whole[:, None], 4, axis=1), inner))
        tap_weights = np.concatenate((np.broadcast_to(_ALONE, (len(whole), 4)), weights))
        return LaidOutImage((len(taps),), PatchPlan(tiles.segments, taps, tap_weights=tap_weights))

    def _num_tiles(self, grid: tuple[int, int]) -> int:
        return (grid[0] // self.tile_size) * (grid[1] // self.tile_size)

    def _grid_rows(self, grid: tuple[int, int]) -> np.ndarray:
        """The row of each feature of the grid as it lies in the picture, int32 [rows, columns]; tile 0 is the whole."""
        rows, columns, side = grid[0] // self.tile_size, grid[1] // self.tile_size, self.tile_side
        numbers = np.arange(rows * columns * side**2, dtype=np.int32) + side**2
        in_place = numbers.reshape(rows, columns, side, side).transpose(0, 2, 1, 3)
        return in_place.reshape(rows * side, columns * side)


def best_grid(width: int, height: int, grid_sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The size (height, width) that keeps most of a picture's pixels, and of these the one that wastes least."""

    def value(size: tuple[int, int]) -> tuple[int, int]:
        scale = min(size[1] / width, size[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - size[0] * size[1]

    return max(grid_sizes, key=value)  # the first of equals


def unpadded(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """A grid [rows, columns] without the margins that padding filled when a picture of this shape was scaled to it."""
    rows, columns = grid.shape
    if width / height > columns / rows:
        margin = (rows - int(round(height * (columns / width), 7))) // 2
        return grid[margin : rows - margin]
    margin = (columns - int(round(width * (rows / height), 7))) // 2
    return grid[:, margin : columns - margin]


def shrunk(grid: np.ndarray, max_features: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid [rows, columns] made smaller, where it is by a tenth a side too large: taps and weights [r, c, 4]."""
    rows, columns = grid.shape
    ratio = math.sqrt(rows * columns / max_features)
    if ratio <= _TOLERATED:
        return np.repeat(grid[:, :, None], 4, axis=2), np.broadcast_to(_ALONE, (rows, columns, 4))
    upper, lower, down = neighbours(rows, int(rows // ratio))
    left, right, across = neighbours(columns, int(columns // ratio))
    taps = [grid[one][:, other] for one in (upper, lower) for other in (left, right)]
    weights = [one[:, None] * other for one in (1 - down, down) for other in (1 - across, across)]
    return np.stack(taps, axis=2), np.stack(weights, axis=2)

"""Pictures that keep their size, up to a limit: one grid of patches each, of which squares become features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aphrodite.domain.architectures.images.image import PatchPlan, by_squares
from aphrodite.domain.architectures.images.layout import LaidOutImage, Tiles
from aphrodite.domain.architectures.images.positions import PositionSquare
from aphrodite.domain.errors import ImageError


@dataclass(frozen=True, slots=True)
class GridLayout:
    """Implements `ImageLayout`: features row by row, with words behind each row and behind the last.

    Patches go to the tower square by square; with windows the squares of one follow each other, and windows of one
    size do, so that the tower may run them at once.
    """

    placeholder_id: int
    side: int  # patches on the side of a square
    max_units: int
    row_end: str
    end: str
    processor_options: Mapping[str, Any]
    window_side: int | None = None  # squares on the side of a window
    positions: PositionSquare | None = None  # learned ones, of a tower that adds them
    has_rope_grid: bool = False  # the decoder tells the features' rows from their columns

    def lay_out(self, width: int, height: int, tiles: Tiles) -> LaidOutImage:
        """Raises ImageError for more patches than the tower reads."""
        if tiles.height * tiles.width > self.max_units:
            raise ImageError(
                f"The image, {width}x{height}, has {tiles.height * tiles.width} patches after the model's image "
                f"processor; the most are {self.max_units}."
            )
        rows, columns = tiles.height // self.side, tiles.width // self.side  # of squares
        windows = _windows(rows, columns, self.window_side or max(rows, columns))
        squares = np.concatenate([region.reshape(-1) for region in windows])
        order = by_squares(tiles.height, tiles.width, self.side).reshape(-1, self.side**2)[squares].reshape(-1)
        taps = np.empty(len(squares), np.int32)
        taps[squares] = np.arange(len(squares), dtype=np.int32)
        lengths = np.concatenate([np.full(len(region), region.shape[1] * self.side**2) for region in windows])
        coordinates = np.stack((order // tiles.width, order % tiles.width), axis=1)
        position_taps, position_weights = None, None
        if self.positions is not None:
            position_taps, position_weights = self.positions.taps(coordinates, tiles.height, tiles.width)
        plan = PatchPlan(
            segments=np.array([len(order)], np.int32),
            taps=taps,
            coordinates=coordinates,
            windows=None if self.window_side is None else lengths.astype(np.int32),
            position_taps=position_taps,
            position_weights=position_weights,
        )
        ends = [self.row_end] * (rows - 1) + [self.end]
        pieces = tuple(piece for end in ends for piece in (columns, end) if piece != "")
        return LaidOutImage(pieces, plan, order, (rows, columns) if self.has_rope_grid else None)


def _windows(rows: int, columns: int, side: int) -> list[np.ndarray]:
    """The squares of each window, int32 [windows, squares], by size: whole ones, and what is left at the borders."""
    numbers = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    whole_rows, whole_columns = rows // side * side, columns // side * side
    regions = [
        numbers[:whole_rows, :whole_columns],
        numbers[:whole_rows, whole_columns:],
        numbers[whole_rows:, :whole_columns],
        numbers[whole_rows:, whole_columns:],
    ]
    found = []
    for region in regions:
        if region.size:
            height, width = min(side, region.shape[0]), min(side, region.shape[1])
            cut = region.reshape(region.shape[0] // height, height, region.shape[1] // width, width)
            found.append(cut.transpose(0, 2, 1, 3).reshape(-1, height * width))
    return found

"""Learned positions of a square, from which those of a picture's patches are interpolated."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

_STEEPNESS = np.float32(-0.75)  # of the cubic kernel (Keys 1981), torch's


@dataclass(frozen=True, slots=True)
class PositionSquare:
    """A table of side * side learned vectors, row by row."""

    side: int
    kind: Literal["corners", "linear", "cubic"]  # two vectors a side, corners on corners; two or four, patches' centres
    # spread over the square

    @property
    def taps_per_position(self) -> int:
        return 16 if self.kind == "cubic" else 4

    def taps(self, coordinates: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Of patches at `coordinates` [P, 2] in a picture of so many: vectors int32 [P, K], weights float32 [P, K]."""
        of_axis = {"corners": _corners, "linear": _linear, "cubic": _cubic}[self.kind]
        down, down_weights = (array[coordinates[:, 0]] for array in of_axis(rows, self.side))
        across, across_weights = (array[coordinates[:, 1]] for array in of_axis(columns, self.side))
        taps = down[:, :, None] * self.side + across[:, None]
        weights = down_weights[:, :, None] * across_weights[:, None]
        return taps.reshape(len(coordinates), -1), weights.reshape(len(coordinates), -1)


def _corners(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps and weights [size, 2]."""
    places = np.arange(size, dtype=np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    before = places.astype(np.int32)
    share = places - before.astype(np.float32)
    return np.stack((before, np.minimum(before + 1, side - 1)), axis=1), np.stack((1 - share, share), axis=1)


def _linear(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps and weights [size, 2]."""
    before, behind, share = neighbours(side, size)
    return np.stack((before, behind), axis=1), np.stack((1 - share, share), axis=1)


def _cubic(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps and weights [size, 4]; beyond the border is the border."""
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(side) / np.float32(size)
    places -= np.float32(0.5)
    before = np.floor(places)
    steps = np.arange(-1, 3, dtype=np.float32)
    far, a = np.abs(places[:, None] - before[:, None] - steps), _STEEPNESS
    inner = ((a + 2) * far - (a + 3)) * far * far + 1
    outer = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    taps = np.clip(before[:, None] + steps, 0, side - 1).astype(np.int32)
    return taps, np.where(far <= 1, inner, outer)


def neighbours(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of `wanted` places spread over `size`: those before and behind, and the share of the latter (bilinear)."""
    scale = np.float32(size) / np.float32(wanted)
    places = np.maximum((np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    before = places.astype(np.int32)
    return before, np.minimum(before + 1, size - 1), places - before.astype(np.float32)

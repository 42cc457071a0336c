"""What an image becomes: patches for the vision tower, features, and the tokens of a prompt that take them.

Letters: P patches, F features of one image, n tokens of one image.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """What depends on an image's size alone.

    The patches of a segment see each other and no others: the whole image, or one tile of it; in some layers of some
    towers only those of a window do. The projector makes rows of the patches, counted over all segments, and a feature
    is one of these rows, or one of the model's learned vectors; of models that shrink their features a sum of several.
    """

    segments: np.ndarray  # int32 [S] how many patches each has
    taps: np.ndarray  # int32 [F] the row that each feature takes; below 0 a learned vector, counted from the last;
    # int32 [F, K] with weights
    coordinates: np.ndarray | None = None  # int32 [P, 2] row and column of each patch, for a tower that rotates by them
    windows: np.ndarray | None = None  # int32 [W] how many patches each has, for a tower with layers of windows
    tap_weights: np.ndarray | None = None  # float32 [F, K] of the rows that a feature is the sum of
    position_taps: np.ndarray | None = None  # int32 [P, K] the learned positions that each patch's is the sum of, for a
    # tower that interpolates them
    position_weights: np.ndarray | None = None  # float32 [P, K]

    @property
    def num_segments(self) -> int:
        return len(self.segments)

    @property
    def num_patches(self) -> int:
        return int(self.segments.sum())

    @property
    def num_features(self) -> int:
        return len(self.taps)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image made ready for the vision tower."""

    patches: np.ndarray  # uint8 [P, 3 * patch_size ** 2] in the plan's order, each channels first
    plan: PatchPlan
    content_hash: bytes  # over the picture's pixels and size, processor settings and model


@dataclass(frozen=True, slots=True)
class ImageSpan:
    """An image in a prompt: its tokens from `start` on, of which some take its features, in order."""

    image: ImageInput
    start: int
    is_feature: np.ndarray  # bool [n]
    grid: tuple[int, int] | None = None  # rows and columns of its features, which stand there row by row, where rotary
    # positions tell rows and columns apart (M-RoPE); None: they count up as in text
    sees_forward: bool = False  # whether features that follow each other see each other, those behind them as well

    @property
    def num_tokens(self) -> int:
        return len(self.is_feature)

    def visible_until(self) -> np.ndarray:
        """Of each token the position before which it sees all, int32 [n]; 0 where it sees itself and what is before."""
        until = np.zeros(self.num_tokens, np.int32)
        if self.sees_forward:
            ends = np.flatnonzero(self.is_feature & ~np.append(self.is_feature[1:], False)) + 1  # of runs of features
            features = np.flatnonzero(self.is_feature)
            until[features] = self.start + ends[np.searchsorted(ends, features, side="right")]
        return until

    @property
    def stop(self) -> int:
        """The position after its last token."""
        return self.start + len(self.is_feature)


def cut_patches(tiles: np.ndarray, patch_size: int) -> np.ndarray:
    """Tiles uint8 [S, height, width, 3] to patches uint8 [S * P, 3 * patch_size ** 2], row by row, channels first.

    What is left at the right and the bottom belongs to no patch, as in a convolution of that stride.
    """
    num_tiles, rows, columns = len(tiles), tiles.shape[1] // patch_size, tiles.shape[2] // patch_size
    whole = tiles[:, : rows * patch_size, : columns * patch_size]
    cut = whole.reshape(num_tiles, rows, patch_size, columns, patch_size, 3).transpose(0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(cut).reshape(num_tiles * rows * columns, 3 * patch_size**2)


def by_squares(rows: int, columns: int, side: int) -> np.ndarray:
    """The patches of a grid, counted row by row, by squares of side * side: int32 [rows * columns]."""
    numbers = np.arange(rows * columns, dtype=np.int32)
    return numbers.reshape(rows // side, side, columns // side, side).transpose(0, 2, 1, 3).reshape(-1)

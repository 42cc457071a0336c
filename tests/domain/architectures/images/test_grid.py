"""Grids of patches, their squares and windows, against transformers' own functions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from aphrodite.domain.architectures.images.grid import GridLayout
from aphrodite.domain.architectures.images.layout import Tiles
from aphrodite.domain.errors import ImageError

sides = st.integers(1, 12)  # in squares


def layout(window_side: int | None, max_units: int = 10_000) -> GridLayout:
    return GridLayout(7, 2, max_units, "break", "end", {}, window_side)


@given(rows=sides, columns=sides)
def test_squares_come_as_transformers_merges_them(rows: int, columns: int) -> None:
    laid_out = layout(None).lay_out(1, 1, Tiles(1, 0, 0, 2 * rows, 2 * columns))
    theirs = get_vision_position_ids(torch.tensor([[1, 2 * rows, 2 * columns]]), 2)
    np.testing.assert_array_equal(laid_out.plan.coordinates, theirs.numpy())
    np.testing.assert_array_equal(laid_out.plan.taps, np.arange(rows * columns))
    assert laid_out.plan.segments.tolist() == [4 * rows * columns]
    assert laid_out.pieces == (*[columns, "break"] * (rows - 1), columns, "end")


@given(rows=sides, columns=sides, window_side=st.integers(1, 5))
def test_windows_hold_what_transformers_puts_into_them(rows: int, columns: int, window_side: int) -> None:
    plan = layout(window_side).lay_out(1, 1, Tiles(1, 0, 0, 2 * rows, 2 * columns)).plan
    assert plan.windows is not None
    assert plan.coordinates is not None
    found = np.split(plan.coordinates, np.cumsum(plan.windows)[:-1])
    grid = torch.tensor([[1, 2 * rows, 2 * columns]])
    index, stops = get_vision_window_index(grid, 2, window_side * 2, 1)
    coordinates = get_vision_position_ids(grid, 2).view(-1, 4, 2)[index].view(-1, 2).numpy()
    stops = np.unique(stops.numpy())
    expected = [coordinates[start:stop] for start, stop in pairwise(stops)]
    assert sorted(window.tolist() for window in found) == sorted(window.tolist() for window in expected)
    # The features are the squares row by row again.
    squares = plan.coordinates.reshape(-1, 4, 2)[:, 0] // 2
    np.testing.assert_array_equal(squares[plan.taps] @ [columns, 1], np.arange(rows * columns))


def test_more_patches_than_the_tower_reads_are_refused() -> None:
    with pytest.raises(ImageError, match=r"The image, 90x70, has 64 patches after .*; the most are 60"):
        layout(None, max_units=60).lay_out(90, 70, Tiles(1, 0, 0, 8, 8))

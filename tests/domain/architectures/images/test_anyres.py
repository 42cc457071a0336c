"""Tiles and their places, against transformers' own functions."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlavaNextConfig
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from aphrodite.domain.architectures.images.anyres import AnyResLayout, best_grid
from aphrodite.domain.architectures.images.layout import Tiles

GRIDS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
sides = st.integers(1, 3000)


@given(width=sides, height=sides)
def test_the_grid_is_transformers_choice(width: int, height: int) -> None:
    assert best_grid(width, height, GRIDS) == select_best_resolution((height, width), list(GRIDS))


@given(width=sides, height=sides)
def test_features_stand_where_transformers_packs_them(width: int, height: int) -> None:
    layout = AnyResLayout(placeholder_id=7, grid_sizes=GRIDS, tile_size=336, tile_side=24)
    rows, columns = (side // 336 for side in best_grid(width, height, GRIDS))
    laid_out = layout.lay_out(width, height, Tiles(1 + rows * columns))
    numbers = torch.arange((1 + rows * columns) * 576, dtype=torch.float64).view(-1, 576, 1)
    config = LlavaNextConfig(image_grid_pinpoints=[list(grid) for grid in GRIDS])
    packer = type("Packer", (), {"config": config, "pack_image_features": LlavaNextModel.pack_image_features})()
    newline = torch.tensor([-1.0], dtype=torch.float64)
    [expected], _ = packer.pack_image_features([numbers], torch.tensor([[height, width]]), "default", newline)
    np.testing.assert_array_equal(laid_out.plan.taps, expected[:, 0].numpy())
    assert laid_out.pieces == (len(expected),)
    assert laid_out.plan.num_segments <= layout.max_units

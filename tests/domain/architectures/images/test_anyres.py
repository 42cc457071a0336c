"""Tiles and their places, against transformers' own functions."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlavaNextConfig, LlavaOnevisionConfig
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

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


@given(width=sides, height=sides)
def test_too_many_features_are_shrunk_as_transformers_interpolates_them(width: int, height: int) -> None:
    config = LlavaOnevisionConfig()
    grids = tuple((rows, columns) for rows, columns in config.image_grid_pinpoints)
    layout = AnyResLayout(placeholder_id=7, grid_sizes=grids, tile_size=384, tile_side=27, max_tiles=9)
    rows, columns = (side // 384 for side in best_grid(width, height, grids))
    plan = layout.lay_out(width, height, Tiles(1 + rows * columns)).plan
    numbers = np.random.default_rng(0).normal(size=((1 + rows * columns) * 729 + 1)).astype(np.float32)
    packer = type("Packer", (), {"config": config, "pack_image_features": LlavaOnevisionModel.pack_image_features})()
    features, newline = torch.from_numpy(numbers[:-1]).view(-1, 729, 1), torch.from_numpy(numbers[-1:])
    [expected], _ = packer.pack_image_features([features], torch.tensor([[height, width]]), newline)
    found = (numbers[plan.taps] * plan.tap_weights).sum(axis=1)
    np.testing.assert_allclose(found, expected[:, 0].numpy(), rtol=1e-4, atol=1e-4)

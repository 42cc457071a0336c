"""Interpolated positions, against transformers' own functions."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.glm4v.configuration_glm4v import Glm4vVisionConfig
from transformers.models.glm4v.modeling_glm4v import Glm4vVisionEmbeddings
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from aphrodite.domain.architectures.images.positions import PositionSquare

Kind = Literal["corners", "linear", "cubic"]
sides = st.integers(1, 20)


def places(rows: int, columns: int) -> np.ndarray:
    return np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)


def dense(taps: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """[P, size] how much of each learned vector a patch has."""
    found = np.zeros((len(taps), size), np.float32)
    np.add.at(found, (np.arange(len(taps))[:, None], taps), weights)
    return found


@given(rows=sides, columns=sides, side=sides)
@pytest.mark.parametrize("kind", ["corners", "linear", "cubic"])
def test_weights_are_those_of_transformers(
    kind: Literal["corners", "linear", "cubic"], rows: int, columns: int, side: int
) -> None:
    square = PositionSquare(side, kind)
    taps, weights = square.taps(places(rows, columns), rows, columns)
    assert taps.shape == weights.shape == (rows * columns, square.taps_per_position)
    assert (taps.dtype, weights.dtype) == (np.int32, np.float32)
    mode = "bicubic" if kind == "cubic" else "bilinear"
    theirs, their_weights = get_vision_interpolation_indices_and_weights(
        torch.tensor([[1, rows, columns]]), side, mode=mode, align_corners=kind == "corners"
    )
    expected = dense(theirs.numpy(), their_weights.numpy(), side**2)
    np.testing.assert_allclose(dense(taps, weights, side**2), expected, atol=1e-5)


@given(rows=sides, columns=sides)
@torch.inference_mode()
def test_cubic_sums_are_glms(rows: int, columns: int) -> None:
    embeddings = Glm4vVisionEmbeddings(Glm4vVisionConfig(hidden_size=8, image_size=20, patch_size=4))
    table = torch.randn(25, 8, generator=torch.Generator().manual_seed(0))
    embeddings.position_embedding.weight.copy_(table)
    at, size = places(rows, columns), torch.tensor([[1, rows, columns]])
    row, column = torch.from_numpy(at).unbind(1)
    expected = embeddings(torch.zeros(len(at), 8), torch.tensor([len(at)]), size, row, column)
    taps, weights = PositionSquare(5, "cubic").taps(at, rows, columns)
    np.testing.assert_allclose(dense(taps, weights, 25) @ table.numpy(), expected.numpy(), atol=2e-5)

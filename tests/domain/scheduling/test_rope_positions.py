"""Rotary positions in time, rows and columns, against those of transformers."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import fake_span
from transformers import (
    Glm4vConfig,
    Glm4vModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from aphrodite.domain.scheduling.rope_positions import rope_positions

KINDS: dict[str, tuple[Any, Any]] = {
    "qwen2.5-vl": (Qwen2_5_VLConfig, Qwen2_5_VLModel),
    "qwen3-vl": (Qwen3VLConfig, Qwen3VLModel),
    "glm4v": (Glm4vConfig, Glm4vModel),
}


@cache
def reference(kind: str) -> Any:
    """A model without weights: what it says of positions needs none."""
    config, model = KINDS[kind]
    with torch.device("meta"):
        return model(
            config(
                text_config={
                    "hidden_size": 8,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 1,
                    "num_key_value_heads": 1,
                    "vocab_size": 8,
                },
                vision_config={"hidden_size": 8, "depth": 1, "num_heads": 1, "intermediate_size": 8},
            )
        )


grids = st.tuples(st.integers(1, 5), st.integers(1, 5))  # rows and columns of features


@given(num_before=st.integers(0, 4), shown=st.lists(st.tuples(grids, st.integers(1, 3)), min_size=1, max_size=4))
@pytest.mark.parametrize("kind", KINDS)
def test_positions_and_what_follows_are_those_of_transformers(
    kind: str, num_before: int, shown: list[tuple[tuple[int, int], int]]
) -> None:
    is_image, spans = [0] * num_before, []
    for (rows, columns), num_after in shown:
        spans.append(fake_span(b"", len(is_image), rows * columns, (rows, columns)))
        is_image += [1] * (rows * columns) + [0] * num_after
    model = reference(kind)
    merge = model.config.vision_config.spatial_merge_size
    expected, deltas = model.get_rope_index(
        torch.ones(1, len(is_image), dtype=torch.long),
        torch.tensor([is_image], dtype=torch.int32),
        torch.tensor([[1, rows * merge, columns * merge] for (rows, columns), _ in shown]),
    )
    positions, offset = rope_positions(len(is_image), spans)
    assert positions is not None
    np.testing.assert_array_equal(positions, expected[:, 0].numpy())
    assert offset == deltas.item()


def test_positions_are_places_where_no_image_has_a_grid() -> None:
    assert rope_positions(9, [fake_span(b"", 1, 6)]) == (None, 0)
    assert rope_positions(9, []) == (None, 0)


def test_an_image_at_the_end_of_a_prompt_is_followed_by_its_longer_side() -> None:
    assert rope_positions(7, [fake_span(b"", 1, 6, (2, 3))])[1] == -3

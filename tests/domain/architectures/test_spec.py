from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as turn_neighbours
from transformers.models.glm4v.configuration_glm4v import Glm4vTextConfig
from transformers.models.glm4v.modeling_glm4v import Glm4vTextRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.configuration_phi3 import Phi3Config
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb as turn_halves
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import RopeSpec


def _reference(config: LlamaConfig) -> np.ndarray:
    rope: Any = config.rope_parameters
    kind = rope["rope_type"]
    compute: Any = (
        LlamaRotaryEmbedding.compute_default_rope_parameters if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
    )
    frequencies, attention_scaling = compute(config)
    assert attention_scaling == 1.0
    return np.asarray(frequencies.to(torch.float32))


@pytest.mark.parametrize("head_dim", [2, 64, 80, 128])
@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {"rope_type": "default", "rope_theta": 1000000},
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4},
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 32.0,
            "low_freq_factor": 2.0,
            "high_freq_factor": 7.5,
            "original_max_position_embeddings": 512,
        },
    ],
)
def test_rotary_frequencies_are_those_of_transformers(rope: dict[str, float], head_dim: int) -> None:
    config = LlamaConfig(head_dim=head_dim, rope_parameters=dict(rope))
    frequencies = read_model(config.to_dict()).decoder.ropes[0].inverse_frequencies(head_dim)
    assert frequencies.dtype == np.float32
    np.testing.assert_allclose(frequencies, _reference(config), rtol=2e-6)


@given(
    theta=st.floats(1e3, 1e7),
    factor=st.floats(1, 64),
    low=st.floats(0.5, 4),
    span=st.floats(0.5, 8),
    original=st.integers(64, 16384),
)
def test_llama3_frequencies_for_any_parameters(
    theta: float, factor: float, low: float, span: float, original: int
) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": low + span,
        "original_max_position_embeddings": original,
    }
    config = LlamaConfig(rope_parameters=rope, max_position_embeddings=131072)
    frequencies = read_model(config.to_dict()).decoder.ropes[0].inverse_frequencies(128)
    np.testing.assert_allclose(frequencies, _reference(config), rtol=1e-4)


@pytest.mark.parametrize("sections", [(24, 20, 20), (22, 21, 21), (2, 31, 31), (62, 1, 1), (64, 0, 0), (10, 40, 14)])
def test_sections_take_turns_as_in_transformers(sections: tuple[int, int, int]) -> None:
    module = Qwen3VLTextRotaryEmbedding.__new__(Qwen3VLTextRotaryEmbedding)
    module.__dict__["mrope_section"] = list(sections)
    doubled = module.recomposition_frequencies(torch.arange(3.0)[:, None, None].repeat(1, 1, 64))
    axes = RopeSpec(1e6, sections=sections, alternates=True).axes(128)
    np.testing.assert_array_equal(np.concatenate((axes, axes)), doubled[0].int().numpy())


@pytest.mark.parametrize("sections", [(16, 24, 24), (1, 2, 61), (64, 0, 0)], ids=str)
def test_each_pair_turns_by_the_position_that_it_turns_by_in_transformers(sections: tuple[int, int, int]) -> None:
    module = Qwen2_5_VLRotaryEmbedding.__new__(Qwen2_5_VLRotaryEmbedding)
    module.__dict__["mrope_section"] = list(sections)
    by_axis = torch.arange(3.0)[:, None, None].expand(3, 1, 64)
    doubled = module.recomposition_frequencies(by_axis)
    axes = RopeSpec(1e6, sections=sections).axes(128)
    np.testing.assert_array_equal(np.concatenate((axes, axes)), doubled[0].int().numpy())
    assert not RopeSpec(1e6).axes(128).any(), "text turns by one position"


@pytest.mark.parametrize("num_rotated", [None, 12, 4])
@pytest.mark.parametrize("pairs_neighbours", [False, True])
def test_heads_in_order_turn_as_transformers_turns_them(num_rotated: int | None, pairs_neighbours: bool) -> None:
    """Number i with i + D / 2, of numbers in the order in which weights are read."""
    rope = RopeSpec(100.0, num_rotated=num_rotated, pairs_neighbours=pairs_neighbours)
    order, frequencies = torch.from_numpy(rope.head_order(16)), torch.from_numpy(rope.inverse_frequencies(16))
    queries, keys = torch.randn(2, 1, 3, 5, 16, generator=torch.Generator().manual_seed(0)).unbind()
    angles = torch.arange(5.0)[:, None] * frequencies  # [T, D / 2]
    turn = turn_neighbours if pairs_neighbours else turn_halves
    doubled = torch.cat((angles, angles), dim=-1)
    if num_rotated is not None:
        doubled = torch.cat((angles[:, : num_rotated // 2],) * 2, dim=-1)
    expected = turn(queries, keys, doubled.cos()[None], doubled.sin()[None])
    for given_, turned in zip((queries, keys), expected, strict=True):
        first, second = given_[..., order].chunk(2, dim=-1)
        found = torch.cat(
            (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), dim=-1
        )
        torch.testing.assert_close(found, turned[..., order])


def test_partial_frequencies_and_axes_are_those_of_transformers() -> None:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 3, 3]}
    config = Glm4vTextConfig(hidden_size=128, num_attention_heads=4, rope_parameters=rope)
    module = Glm4vTextRotaryEmbedding(config)
    spec = RopeSpec(10000.0, sections=(2, 3, 3), num_rotated=16, pairs_neighbours=True)
    frequencies, axes = spec.inverse_frequencies(32), spec.axes(32)
    np.testing.assert_allclose(frequencies[:8], module.inv_freq.numpy(), rtol=2e-6)
    assert not frequencies[8:].any()
    assert len(axes) == 16
    doubled = module.recomposition_frequencies(torch.arange(3.0)[:, None, None].expand(3, 1, 8))
    np.testing.assert_array_equal(axes[:8], doubled[0, ::2].int().numpy())


@pytest.mark.parametrize(
    "settings",
    [
        {
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },  # Ministral 3
        {"factor": 4.0, "original_max_position_embeddings": 32768},  # Qwen2.5, for long texts
        {"factor": 8.0, "original_max_position_embeddings": 512, "mscale": 0.7, "mscale_all_dim": 0.4},
        {
            "factor": 2.0,
            "original_max_position_embeddings": 64,
            "attention_factor": 1.3,
            "beta_fast": 4,
            "beta_slow": 2,
        },
    ],
)
def test_yarn(settings: dict[str, Any]) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, **settings}
    config = LlamaConfig(head_dim=64, max_position_embeddings=4096, rope_parameters=rope)
    frequencies, amplitude = ROPE_INIT_FUNCTIONS["yarn"](config)
    (found,) = set(read_model(config.to_dict()).decoder.ropes)
    np.testing.assert_allclose(found.inverse_frequencies(64), np.asarray(frequencies), rtol=1e-6)
    assert found.amplitude == pytest.approx(amplitude)


@pytest.mark.parametrize("more", [{}, {"factor": 16.0}, {"attention_factor": 1.19}])
@pytest.mark.parametrize("share", [1.0, 0.75])
def test_longrope(more: dict[str, float], share: float) -> None:
    pairs = int(64 * share) // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": share,
        "short_factor": [1.0 + pair / 9 for pair in range(pairs)],
        "long_factor": [2.0 + pair * 1.3 for pair in range(pairs)],
        **more,
    }
    config = Phi3Config(
        hidden_size=128,
        num_attention_heads=2,
        max_position_embeddings=4096,
        original_max_position_embeddings=512,
        rope_parameters=rope,
    )
    decoder = read_model(config.to_dict()).decoder
    for max_model_len, seq_len in ((512, 512), (513, 513), (4096, 4096)):
        frequencies, amplitude = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=seq_len)
        (found,) = set(decoder.for_contexts(max_model_len).ropes)
        turned = found.inverse_frequencies(64)
        np.testing.assert_allclose(turned[:pairs], np.asarray(frequencies), rtol=1e-6)
        assert not turned[pairs:].any()
        assert found.amplitude == pytest.approx(amplitude)

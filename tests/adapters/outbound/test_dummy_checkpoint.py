"""Random weights: the shapes that transformers gives the same configuration, and what initialisation makes of them."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.builders import Family, Tower, tiny_llava, tiny_text
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.dummy_checkpoint import DummyCheckpoint
from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, ModelSpec, RopeSpec
from aphrodite.domain.architectures.weights import assemble


def dummy(folder: Path, seed: int = 0) -> tuple[ModelSpec, DummyCheckpoint]:
    source = SafetensorsCheckpoint(folder)
    spec = read_model(source.config)
    return spec, DummyCheckpoint(source, spec, seed)


def check_against(model: Any, spec: ModelSpec, checkpoint: DummyCheckpoint) -> None:
    shapes = {canonical_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, tensor in checkpoint.tensors():
        assert tensor.shape == shapes[name]
    assert sum(1 for _ in assemble(spec, checkpoint.tensors())) > 0


@pytest.mark.parametrize(("tower", "text"), [("clip", "llama"), ("siglip", "qwen3")])
def test_names_and_shapes_with_a_tower(tmp_path: Path, tower: Tower, text: Family) -> None:
    tiny_llava(tmp_path, tower, text)
    check_against(LlavaForConditionalGeneration.from_pretrained(tmp_path), *dummy(tmp_path))


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_names_and_shapes_of_a_decoder(tmp_path: Path, family: Family) -> None:
    tiny_text(tmp_path, family)
    check_against(AutoModelForCausalLM.from_pretrained(tmp_path), *dummy(tmp_path))


def test_works_without_weights_and_keeps_the_configuration(tmp_path: Path) -> None:
    tiny_text(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    _, checkpoint = dummy(tmp_path)
    source = SafetensorsCheckpoint(tmp_path)
    assert (checkpoint.config, checkpoint.generation_config) == (source.config, source.generation_config)
    assert dict(checkpoint.tensors())


def test_the_seed_decides(tmp_path: Path) -> None:
    tiny_text(tmp_path)
    first, again, other = (dict(dummy(tmp_path, seed)[1].tensors()) for seed in (3, 3, -3))
    name = "decoder.layers.0.mlp.up_proj.weight"
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first[name], other[name])
    assert not np.array_equal(first[name], first["decoder.layers.1.mlp.up_proj.weight"])


def test_norms_are_one_and_the_rest_is_small(tmp_path: Path) -> None:
    tiny_llava(tmp_path)
    for name, tensor in dummy(tmp_path)[1].tensors():
        if "norm" in name and name.endswith("weight"):
            assert (tensor == 1).all()
        else:
            assert np.abs(tensor).max() < 0.15
            assert np.abs(tensor).max() > 0


class Source:
    """A configuration and nothing else."""

    generation_config: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, dtype: str | None) -> None:
        self.config = {"dtype": dtype}

    def tensors(self) -> Any:
        raise AssertionError


WIDE = ModelSpec(
    DecoderSpec(
        vocab_size=8000,
        hidden_size=1024,
        intermediate_size=64,
        num_layers=1,
        num_heads=8,
        num_kv_heads=8,
        head_dim=128,
        max_position=64,
        rms_norm_eps=1e-5,
        ropes=(RopeSpec(10000.0),),
        activation="silu",
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        attention=(AttentionSpec(1.0),),
        experts=(None,),
        tied_embeddings=True,
    )
)


def test_a_matrix_larger_than_the_pool_is_normal_and_repeats_no_row() -> None:
    embedding = dict(DummyCheckpoint(Source("float32"), WIDE).tensors())["decoder.embed_tokens.weight"]
    assert embedding.shape == (8000, 1024)
    assert abs(embedding.mean()) < 1e-4
    assert embedding.std() == pytest.approx(0.02, rel=0.01)
    assert len(np.unique(embedding[:, 0])) > 7900


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", ml_dtypes.bfloat16), ("float16", np.float16), ("float32", np.float32), (None, np.float32)],
)
def test_dtype_is_the_configurations(dtype: str | None, expected: type) -> None:
    _, tensor = next(DummyCheckpoint(Source(dtype), WIDE).tensors())
    assert tensor.dtype == expected

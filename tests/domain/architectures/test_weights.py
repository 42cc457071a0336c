import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GlmOcrConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)

from aphrodite.domain.architectures.names import canonical_name, is_unused
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.architectures.weights import assemble, declare_weights
from aphrodite.domain.errors import CheckpointError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
TOWERS = ("clip_vision_model", "siglip_vision_model")

_GLM_OCR_TEXT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 56,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1],
    },
}  # fmt: skip

Shapes = dict[str, tuple[int, ...]]
Maker = Callable[..., PreTrainedConfig]


def _build(config: PreTrainedConfig) -> PreTrainedModel:
    build: Any = AutoModelForCausalLM.from_config
    if config.model_type == "llava":
        build = LlavaForConditionalGeneration._from_config
    with torch.device("meta"):
        model: PreTrainedModel = build(config)
    return model


def _in_memory(model: PreTrainedModel) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _saved(model: PreTrainedModel, folder: Path) -> Shapes:
    model.to_empty(device="cpu").save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _as_transformers_4(shapes: Shapes, *, late: bool) -> Shapes:
    """The names that transformers 4.40 or, with `late`, 4.52 wrote."""
    old = {}
    for name, shape in shapes.items():
        name = re.sub(r"^model\.vision_tower\.", "model.vision_tower.vision_model.", name)
        if not late:
            name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
            name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
            name = re.sub(r"^model\.(vision_tower|multi_modal_projector)\.", r"\1.", name)
        old[name] = shape
    return old


def _needed(raw: Shapes, model: ModelSpec) -> Shapes:
    names = {canonical_name(name): shape for name, shape in raw.items()}
    assert len(names) == len(raw)
    if model.decoder.tied_embeddings:
        names.pop("lm_head.weight", None)  # in memory the embeddings' own
    return {name: shape for name, shape in names.items() if not is_unused(name, model)}


def _declared(model: ModelSpec) -> Shapes:
    sources = [source for weight in declare_weights(model) for source in weight.sources]
    assert len({source.name for source in sources}) == len(sources)
    return {source.name: source.shape for source in sources}


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pairing_declares_what_transformers_holds(
    make_llava: Maker, family: str, tower: str, tmp_path: Path
) -> None:
    config = make_llava(family, tower)
    spec, model = read_model(config.to_dict()), _build(config)
    now = _in_memory(model)
    for shapes in (
        now,
        _as_transformers_4(now, late=False),
        _as_transformers_4(now, late=True),
        _saved(model, tmp_path),
    ):
        assert _needed(shapes, spec) == _declared(spec)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "family", [*FAMILIES, "gemma", "gemma2", "gemma3_text", "glm", "glm4", "granite", "ministral3", "phi3", "ernie4_5"]
)
def test_every_decoder_alone_declares_what_transformers_holds(
    make_decoder: Maker, family: str, tied: bool, tmp_path: Path
) -> None:
    config = make_decoder(family, tie_word_embeddings=tied)
    spec, model = read_model(config.to_dict()), _build(config)
    now = _in_memory(model)
    bare = {name.removeprefix("model."): shape for name, shape in now.items()}
    for shapes in (now, bare, _saved(model, tmp_path)):
        assert _needed(shapes, spec) == _declared(spec)


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"num_key_value_heads": 4, "head_dim": None}),
        ("qwen2", {"head_dim": 8}),
        ("qwen3", {"attention_bias": True, "head_dim": 24}),
    ],
)
def test_variants_of_a_decoder(make_decoder: Maker, family: str, overrides: dict[str, Any]) -> None:
    config = make_decoder(family, **overrides)
    spec = read_model(config.to_dict())
    assert _needed(_in_memory(_build(config)), spec) == _declared(spec)


@pytest.mark.parametrize(
    "overrides",
    [
        {"vision_feature_layer": 0},
        {"vision_feature_layer": [1, -1]},
        {"multimodal_projector_bias": False},
        {"tie_word_embeddings": True},
        {"text": {"tie_word_embeddings": True}},
        {"vision": {"num_hidden_layers": 1}, "vision_feature_layer": -1},
    ],
)
@pytest.mark.parametrize("tower", TOWERS)
def test_variants_of_llava(make_llava: Maker, tower: str, overrides: dict[str, Any]) -> None:
    config = make_llava("llama", tower, **overrides)
    spec = read_model(config.to_dict())
    assert _needed(_in_memory(_build(config)), spec) == _declared(spec)


def _tensors(model: ModelSpec) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.random(shape, dtype=np.float32) for name, shape in _declared(model).items()}


@pytest.fixture
def spec(make_llava: Maker) -> ModelSpec:
    return read_model(make_llava("qwen2").to_dict())


def test_assemble_gives_each_weight_its_sources_in_order(spec: ModelSpec) -> None:
    tensors = _tensors(spec)
    backwards = dict(reversed(tensors.items()))
    assembled = dict(assemble(spec, backwards.items()))
    assert set(assembled) == set(declare_weights(spec))
    for weight, arrays in assembled.items():
        assert np.concatenate(arrays).shape == weight.shape
        assert np.concatenate(arrays).size == weight.size
        for source, array in zip(weight.sources, arrays, strict=True):
            assert array is tensors[source.name]
    qkv = next(weight for weight in assembled if weight.name == "layers.0.qkv.weight")
    assert [source.name.rsplit(".", 2)[1] for source in qkv.sources] == ["q_proj", "k_proj", "v_proj"]


def test_what_a_family_makes_of_its_numbers_is_made_when_they_are_read(make_decoder: Maker) -> None:
    """So that neither Gemma's norms, which are 1 + weight, nor Granite's multipliers cost a step anything."""

    def prepared(family: str, **overrides: Any) -> dict[str, float]:
        spec = read_model(make_decoder(family, **overrides).to_dict())
        tensors = ((name, np.full(shape, 0.5, np.float16)) for name, shape in _declared(spec).items())
        return {weight.name: arrays[0].flat[0] for weight, arrays in assemble(spec, tensors)}

    gemma = prepared("gemma2")
    for name in ("norm", "layers.0.attention_norm", "layers.1.attention_post_norm", "layers.2.mlp_post_norm"):
        assert gemma[name] == 1.5
    assert gemma["layers.0.down.weight"] == 0.5
    granite = prepared("granite", residual_multiplier=0.25, logits_scaling=8.0)
    assert (granite["norm"], granite["layers.0.mlp_norm"]) == (0.0625, 0.5)
    assert (granite["layers.0.output.weight"], granite["layers.0.down.weight"]) == (0.125, 0.125)


def test_what_a_checkpoint_has_merged_comes_in_its_parts(make_decoder: Maker) -> None:
    """A device of several has its share of each."""
    spec = read_model(make_decoder("glm").to_dict())
    tensors = _tensors(spec)
    assembled = {weight.name: (weight, arrays) for weight, arrays in assemble(spec, tensors.items())}
    weight, arrays = assembled["layers.1.gate_up.weight"]
    assert weight.shape == (112, 32)
    assert [array.shape for array in arrays] == [(56, 32)] * 2
    np.testing.assert_array_equal(np.concatenate(arrays), tensors["decoder.layers.1.mlp.gate_up_proj.weight"])


def test_assemble_yields_a_weight_as_soon_as_it_is_whole(spec: ModelSpec) -> None:
    """A checkpoint streams through: what was yielded is not held back until the end."""
    read: list[str] = []

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in _tensors(spec).items():
            read.append(name)
            yield name, tensor

    for weight, _ in assemble(spec, stream()):
        assert read[-1] == weight.sources[-1].name


def test_a_missing_tensor_is_named(spec: ModelSpec) -> None:
    tensors = _tensors(spec)
    del tensors["decoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(CheckpointError, match=r"lacks .*decoder\.layers\.1\.self_attn\.k_proj\.bias"):
        list(assemble(spec, tensors.items()))


def test_many_missing_tensors_are_counted(spec: ModelSpec) -> None:
    with pytest.raises(CheckpointError, match=rf"and {len(_declared(spec)) - 5} more"):
        list(assemble(spec, ()))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.o_proj.bias",  # Qwen2 has none
        "model.layers.3.mlp.up_proj.weight",  # one layer too many
        "model.vision_tower.encoder.layers.4.mlp.fc1.weight",  # likewise
        "model.vision_tower.encoder.layers.3.mlp.fc3.weight",
        "lm_head.bias",
        "model.image_newline",
        "model.layers.0.self_attn.q_proj.weight_scale",
    ],
)
def test_a_left_over_tensor_is_named(spec: ModelSpec, name: str) -> None:
    tensors = _tensors(spec) | {name: np.zeros(1, np.float32)}
    with pytest.raises(CheckpointError, match=rf"no place for: {re.escape(name)}"):
        list(assemble(spec, tensors.items()))


def test_tied_embeddings_may_be_held_under_either_name_or_both(make_decoder: Maker) -> None:
    tied = read_model(make_decoder("llama", tie_word_embeddings=True).to_dict())
    tensors = _tensors(tied)
    matrix = tensors.pop("decoder.embed_tokens.weight")
    for names in (("lm_head",), ("decoder.embed_tokens",), ("lm_head", "decoder.embed_tokens")):
        held = [*((f"{name}.weight", matrix) for name in names), *tensors.items()]
        for order in (held, held[::-1]):
            found = {weight.name: arrays for weight, arrays in assemble(tied, order)}
            assert found["embed.weight"][0] is matrix
            assert len(found) == len(declare_weights(tied))
    with pytest.raises(CheckpointError, match=r"lacks .*decoder\.embed_tokens\.weight"):
        list(assemble(tied, tensors.items()))


def test_a_vision_tensor_is_left_over_in_a_text_model(make_decoder: Maker) -> None:
    text = read_model(make_decoder("llama").to_dict())
    tensors = _tensors(text) | {"vision_tower.vision_model.post_layernorm.weight": np.zeros(24, np.float32)}
    with pytest.raises(CheckpointError, match="post_layernorm"):
        list(assemble(text, tensors.items()))


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.vision_model.post_layernorm.weight",
        "vision_tower.vision_model.embeddings.position_ids",
        "model.vision_tower.head.attention.in_proj_weight",
        "model.vision_tower.encoder.layers.3.self_attn.out_proj.bias",
        "language_model.model.layers.2.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
    ],
)
def test_tensors_that_checkpoints_carry_for_nothing_are_passed_over(spec: ModelSpec, name: str) -> None:
    tensors = _tensors(spec) | {name: np.zeros(1, np.float32)}
    assert len(list(assemble(spec, tensors.items()))) == len(declare_weights(spec))


def test_a_layer_that_guesses_ahead_is_passed_over() -> None:
    """GLM-OCR's checkpoints hold one behind the others."""
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 40, "out_hidden_size": 48}
    spec = read_model(GlmOcrConfig(text_config=_GLM_OCR_TEXT, vision_config=vision).to_dict())
    tensors = _tensors(spec)
    spare = {"model.language_model.layers.3.eh_proj.weight": np.zeros((1, 2), np.float32)}
    assert len(list(assemble(spec, (tensors | spare).items()))) == len(declare_weights(spec))
    beyond = {"model.language_model.layers.4.eh_proj.weight": np.zeros((1, 2), np.float32)}
    with pytest.raises(CheckpointError, match=r"no place for: .*layers\.4"):
        list(assemble(spec, (tensors | beyond).items()))


def test_the_same_tensor_under_two_names_is_an_error(spec: ModelSpec) -> None:
    tensors = _tensors(spec) | {"language_model.model.norm.weight": np.zeros(32, np.float32)}
    with pytest.raises(CheckpointError, match=r"language_model\.model\.norm\.weight twice"):
        list(assemble(spec, tensors.items()))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_])
def test_weights_are_floats(spec: ModelSpec, dtype: type[np.generic]) -> None:
    tensors = _tensors(spec)
    tensors["decoder.norm.weight"] = tensors["decoder.norm.weight"].astype(dtype)
    with pytest.raises(CheckpointError, match=rf"decoder\.norm\.weight holds {np.dtype(dtype).name} numbers"):
        list(assemble(spec, tensors.items()))


def test_a_wrong_shape_is_named_with_both_shapes(spec: ModelSpec) -> None:
    tensors = _tensors(spec) | {"decoder.norm.weight": np.zeros(31, np.float32)}
    with pytest.raises(CheckpointError, match=r"decoder\.norm\.weight has the shape \[31\].* \[32\]"):
        list(assemble(spec, tensors.items()))

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, CLIPVisionModel, LlavaConfig, PreTrainedConfig, Qwen3VLConfig, SiglipVisionModel
from transformers.activations import ACT2FN

from aphrodite.domain.architectures.registry import DECODERS, VISION_MODELS, read_model
from aphrodite.domain.architectures.spec import AttentionSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.errors import UnsupportedModelError

Maker = Callable[..., PreTrainedConfig]


def test_the_published_llava_1_5_configuration() -> None:
    """What the 7B checkpoint's config.json holds, completed by transformers."""
    config = LlavaConfig(
        text_config={
            "model_type": "llama",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "vocab_size": 32064,
        },
        image_token_index=32000,
    )
    model = read_model(config.to_dict())
    assert model.image_token_id == 32000
    assert model.decoder.vocab_size == 32064
    assert model.decoder.max_position == 4096
    assert model.decoder.attention == (AttentionSpec(128**-0.5),) * 32
    assert model.vision is not None
    assert model.vision.num_image_tokens == 576
    assert model.vision.feature_layers == (23,)
    assert model.vision.num_used_layers == 23
    assert model.vision.activation == "quick_gelu"
    assert model.vision.projector == two_layers(1024, 4096, "gelu", bias=True)
    assert model.vision.output_size == 4096


@pytest.mark.parametrize("layer", [-5, -2, -1, 0, 1, 4, [-2], [0, 4, -2, -5]])
@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("tower", ["clip_vision_model", "siglip_vision_model"])
def test_feature_layers_index_the_hidden_states(
    make_llava: Maker, tower: str, strategy: str, layer: int | list[int]
) -> None:
    config = make_llava("llama", tower, vision_feature_layer=layer, vision_feature_select_strategy=strategy)
    vision = read_model(config.to_dict()).vision
    assert vision is not None
    kind = CLIPVisionModel if tower == "clip_vision_model" else SiglipVisionModel
    with torch.device("meta"):
        tower_model = kind(config.vision_config)
        outputs = tower_model(torch.zeros(1, 3, 30, 30), output_hidden_states=True)
    asked = [layer] if isinstance(layer, int) else layer
    for resolved, index in zip(vision.feature_layers, asked, strict=True):
        assert outputs.hidden_states[resolved] is outputs.hidden_states[index]
    chosen = outputs.hidden_states[vision.feature_layers[0]][:, int(strategy == "default") :]
    assert vision.num_image_tokens == chosen.shape[1]


@pytest.mark.parametrize("layer", [5, -6, [0, 5], [], None, True, "last"])
def test_a_feature_layer_that_does_not_exist_is_refused(make_llava: Maker, layer: object) -> None:
    config = make_llava().to_dict() | {"vision_feature_layer": layer}
    with pytest.raises(UnsupportedModelError, match=r"vision_feature_layer = .*; supported is"):
        read_model(config)


@pytest.mark.parametrize(("outer", "inner"), [(False, False), (True, False), (False, True)])
def test_llava_ties_where_either_configuration_says_so(make_llava: Maker, outer: bool, inner: bool) -> None:
    config = make_llava(text={"tie_word_embeddings": inner}, tie_word_embeddings=outer)
    assert read_model(config.to_dict()).decoder.tied_embeddings == (outer or inner)


@pytest.mark.parametrize(
    ("family", "overrides", "windows"),
    [
        ("llama", {}, (None, None, None)),
        ("mistral", {"sliding_window": 9}, (9, 9, 9)),
        ("mistral", {"sliding_window": None}, (None, None, None)),
        ("qwen2", {"sliding_window": 9, "max_window_layers": 1}, (None, None, None)),
        ("qwen2", {"sliding_window": 9, "max_window_layers": 1, "use_sliding_window": True}, (None, 9, 9)),
        ("qwen3", {"sliding_window": 9, "max_window_layers": 3, "use_sliding_window": True}, (None, None, None)),
        (
            "qwen3",
            {
                "sliding_window": 9,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (9, None, 9),
        ),
    ],
)
def test_windows_layer_by_layer(
    make_decoder: Maker, family: str, overrides: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    assert read_model(make_decoder(family, **overrides).to_dict()).decoder.attention == tuple(
        AttentionSpec(8**-0.5, window) for window in windows
    )


def test_a_qwen_file_from_before_layer_types(make_decoder: Maker) -> None:
    config = make_decoder("qwen2").to_dict() | {"sliding_window": 9, "max_window_layers": 2, "use_sliding_window": True}
    del config["layer_types"]
    assert [attention.window for attention in read_model(config).decoder.attention] == [None, None, 9]


def test_rotary_settings_given_for_each_layer_type(make_decoder: Maker) -> None:
    one = {"rope_type": "default", "rope_theta": 5e5}
    config = make_decoder("qwen3", rope_parameters={"full_attention": one}).to_dict()
    assert read_model(config).decoder.ropes[0].theta == 5e5
    both = {"full_attention": one, "sliding_attention": one | {"rope_theta": 1e4}}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    mixed = config | {"rope_parameters": both, "layer_types": kinds, "sliding_window": 9}
    assert [rope.theta for rope in read_model(mixed).decoder.ropes] == [1e4, 1e4, 5e5]
    with pytest.raises(UnsupportedModelError, match="sliding_attention = nothing"):
        read_model(mixed | {"rope_parameters": {"full_attention": one}})


@pytest.mark.parametrize("sections", [[2, 1, 1, 0], [2, 1, 2], [3, -1, 2], [2.0, 1, 1], "211"])
def test_sections_that_do_not_share_out_the_head(make_decoder: Maker, sections: object) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = make_decoder("qwen3", rope_parameters=rope).to_dict()
    assert read_model(config).decoder.ropes[0].sections == (2, 1, 1)
    with pytest.raises(UnsupportedModelError, match="mrope_section"):
        read_model(config | {"rope_parameters": rope | {"mrope_section": sections}})


@pytest.mark.parametrize("share", [0.4, 1.5, 0.01, "half"])
def test_a_head_that_turns_in_part(make_decoder: Maker, share: object) -> None:
    config = make_decoder("glm4").to_dict()
    assert read_model(config).decoder.ropes[0].num_rotated == 4
    with pytest.raises(UnsupportedModelError, match=rf"partial_rotary_factor = '?{share}"):
        read_model(config | {"rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": share}})
    whole = config | {"rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": 1.0}}
    assert read_model(whole).decoder.ropes[0].num_rotated is None


def test_gemmas_that_embed_text_are_refused(make_decoder: Maker) -> None:
    for family in ("gemma", "gemma2", "gemma3_text"):
        config = make_decoder(family, use_bidirectional_attention=True).to_dict()
        with pytest.raises(UnsupportedModelError, match="use_bidirectional_attention = True"):
            read_model(config)


@pytest.mark.parametrize(
    "name", ["silu", "swish", "gelu", "gelu_python", "gelu_pytorch_tanh", "gelu_new", "quick_gelu"]
)
def test_activations_mean_what_transformers_means(make_decoder: Maker, name: str) -> None:
    formulas: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "silu": lambda x: x * torch.sigmoid(x),
        "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    }
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    activation = read_model(make_decoder("llama", hidden_act=name).to_dict()).decoder.activation
    torch.testing.assert_close(formulas[activation](x), ACT2FN[name](x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"model_type": "kosmos-2"},
            f"model_type = 'kosmos-2'; supported is one of {', '.join((*VISION_MODELS, *DECODERS))}",
        ),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy = 'cls'; supported is one of"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act = 'relu'; supported is one of silu"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised (awq)"),
        ({"image_token_index": None}, "image_token_id = nothing"),
        ({"vision_config": None}, "vision_config = None"),
        ({"text_config": {"model_type": "gpt2"}}, "text_config.model_type = 'gpt2'; supported is one of llama"),
        (
            {"vision_config": {"model_type": "vivit"}},
            "vision_config.model_type = 'vivit'; supported is one of clip",
        ),
        ({"vision_config": {"num_channels": 1}}, "vision_config.num_channels = 1; supported is 3"),
        ({"vision_config": {"image_size": [30, 60]}}, "vision_config.image_size = [30, 60]; supported is a square"),
        ({"vision_config": {"patch_size": 31}}, "vision_config.patch_size = 31; supported is at most"),
        ({"vision_config": {"hidden_act": "relu"}}, "vision_config.hidden_act = 'relu'"),
        ({"vision_config": {"num_attention_heads": 5}}, "vision_config.num_attention_heads = 5"),
        ({"text_config": {"hidden_act": "relu2"}}, "text_config.hidden_act = 'relu2'"),
        ({"text_config": {"hidden_size": 0}}, "text_config.hidden_size = 0; supported is an integer"),
        ({"text_config": {"rms_norm_eps": "small"}}, "text_config.rms_norm_eps = 'small'"),
        ({"text_config": {"num_key_value_heads": 3}}, "text_config.num_key_value_heads = 3"),
        ({"text_config": {"head_dim": 7}}, "text_config.head_dim = 7"),
        ({"text_config": {"attention_bias": "yes"}}, "text_config.attention_bias = 'yes'"),
        ({"text_config": {"quantization_config": {}}}, "quantised (unknown)"),
        (
            {"text_config": {"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4, "factor": 4.0}}},
            "text_config.rope_parameters.rope_type = 'proportional'; supported is one of default, dynamic, linear",
        ),
        (
            {
                "text_config": {
                    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
                }
            },
            "partial_rotary_factor = 0.5",
        ),
    ],
)
def test_what_we_cannot_run_is_named_with_what_we_can(make_llava: Maker, change: dict[str, Any], sentence: str) -> None:
    config = make_llava().to_dict()
    for name, value in change.items():
        nested = isinstance(value, dict) and name in ("text_config", "vision_config")
        config[name] = config[name] | value if nested else value
    with pytest.raises(UnsupportedModelError, match=re.escape(sentence)):
        read_model(config)


@pytest.mark.parametrize(
    ("section", "change", "sentence"),
    [
        (
            "vision_config",
            {"deepstack_visual_indexes": [2, 1]},
            "deepstack_visual_indexes = [2, 1]; supported is a",
        ),
        (
            "vision_config",
            {"deepstack_visual_indexes": [1, 4]},
            "deepstack_visual_indexes = [1, 4]; supported is a",
        ),
        ("vision_config", {"deepstack_visual_indexes": None}, "deepstack_visual_indexes = None"),
        ("vision_config", {"num_position_embeddings": 26}, "num_position_embeddings = 26; supported is a square"),
        ("vision_config", {"out_hidden_size": 40}, "out_hidden_size = 40; supported is the decoder's hidden_size, 48"),
        (
            "text_config",
            {"num_hidden_layers": 1},
            "deepstack_visual_indexes = [0, 1]; supported is at most one",
        ),
        (
            "text_config",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "text_config.rope_parameters.mrope_section = nothing; supported is three numbers",
        ),
    ],
)
def test_what_we_cannot_run_of_a_qwen3_vl(section: str, change: dict[str, Any], sentence: str) -> None:
    sizes = {"hidden_size": 48, "intermediate_size": 56}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "num_hidden_layers": 2}
    vision = {"depth": 4, "num_heads": 2, "out_hidden_size": 48, "num_position_embeddings": 25}
    config = Qwen3VLConfig(
        text_config=sizes | heads | {"rope_parameters": rope},
        vision_config=sizes | vision | {"deepstack_visual_indexes": [0, 1]},
    ).to_dict()
    model = read_model(config)
    assert model.vision is not None
    assert (model.decoder.deepstack_layers, model.vision.taken_layers, model.feature_size) == ((0, 1), (4, 1, 2), 144)
    with pytest.raises(UnsupportedModelError, match=re.escape(sentence)):
        read_model(config | {section: config[section] | change})


@pytest.mark.parametrize("model_type", ["gpt2", "blip-2", "deepseek_v3", "clip", "bert"])
def test_models_of_other_families_are_refused(model_type: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"model_type = '{model_type}'"):
        read_model(AutoConfig.for_model(model_type).to_dict())


def test_an_image_size_may_be_two_equal_numbers(make_llava: Maker) -> None:
    config = make_llava().to_dict()
    config["vision_config"]["image_size"] = [30, 30]
    vision = read_model(config).vision
    assert vision is not None
    assert vision.image_size == 30


def test_factors_of_longrope_are_one_a_pair(make_decoder: Maker) -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0, **factors}
    config = make_decoder("phi3", rope_parameters=rope, original_max_position_embeddings=2048).to_dict()
    assert read_model(config).decoder.ropes[0].original_max_position == 2048
    for name, wrong in (("short_factor", [1.0] * 3), ("long_factor", [1.0] * 3 + [0]), ("long_factor", None)):
        changed = config | {"rope_parameters": config["rope_parameters"] | {name: wrong}}
        with pytest.raises(UnsupportedModelError, match=f"{name} = .*; supported is a list of 4 numbers above 0"):
            read_model(changed)


def test_queries_grow_in_ministral3_alone(make_decoder: Maker) -> None:
    """Transformers' other decoders do not look at that number."""
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    rope["llama_4_scaling_beta"] = 0.1
    for family, growth in (("ministral3", 0.1), ("mistral", 0.0)):
        (found,) = set(read_model(make_decoder(family).to_dict() | {"rope_parameters": rope}).decoder.ropes)
        assert (found.query_growth, found.original_max_position) == (growth, 64)

"""The tiny checkpoints of the parity suite, by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tests.builders import (
    Family,
    Tower,
    tiny_deepseek_vl,
    tiny_gemma3,
    tiny_glm_v,
    tiny_idefics3,
    tiny_internvl,
    tiny_llava,
    tiny_paddleocr_vl,
    tiny_paligemma,
    tiny_pixtral,
    tiny_qwen_vl,
    tiny_text,
)
from tests.internvl_chat import tiny_internvl_chat

TOWERS: tuple[Tower, ...] = get_args(Tower)
FAMILIES: tuple[Family, ...] = get_args(Family)
PAIRINGS = tuple(f"{tower}-{family}" for tower in TOWERS for family in FAMILIES[:4])  # of many decoders, those first

WINDOW = 7  # tokens, shorter than nearly every prompt
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}
_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}

# name -> (decoder, changes to its configuration)
TEXT_VARIANTS: dict[str, tuple[Family, dict[str, Any]]] = {
    "llama-llama3-rope": ("llama", {"rope_parameters": _LLAMA3}),
    "llama-linear-rope": ("llama", {"rope_parameters": _LINEAR}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-attention-bias": ("llama", {"attention_bias": True}),
    "llama-mlp-bias": ("llama", {"mlp_bias": True}),
    "llama-no-groups": ("llama", {"num_key_value_heads": 4}),
    "llama-one-kv-head": ("llama", {"num_key_value_heads": 1}),
    "llama-gelu": ("llama", {"hidden_act": "gelu_pytorch_tanh"}),
    "mistral-window": ("mistral", {"sliding_window": WINDOW}),
    "qwen2-window": ("qwen2", _SLIDING),
    "qwen2-all-windows": ("qwen2", _SLIDING | {"max_window_layers": 0, "sliding_window": 5}),
    "qwen2-dynamic-rope": ("qwen2", {"rope_parameters": _LINEAR | {"rope_type": "dynamic"}}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "gemma-tied": ("gemma", {"tie_word_embeddings": True}),
    "gemma2-wide-heads": ("gemma2", {"head_dim": 256, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "gemma3-tied": ("gemma3_text", {"tie_word_embeddings": True, "final_logit_softcapping": 4.0}),
    "glm4-linear-rope": (
        "glm4",
        {"attention_bias": False, "rope_parameters": _LINEAR | {"partial_rotary_factor": 0.25}},
    ),
    "granite-tied": ("granite", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "ministral3-window": ("ministral3", {"sliding_window": WINDOW}),
    "mixtral-one-of-six": ("mixtral", {"num_local_experts": 6, "num_experts_per_tok": 1}),
    "qwen3-moe-renormalized": ("qwen3_moe", {"norm_topk_prob": True, "num_experts_per_tok": 3}),
    "qwen3-moe-some-layers": ("qwen3_moe", {"mlp_only_layers": [0], "decoder_sparse_step": 2}),
    "qwen2-moe-renormalized": ("qwen2_moe", {"norm_topk_prob": True}),
    "glm4-moe-one-group": ("glm4_moe", {"n_group": 1, "topk_group": 1, "use_qk_norm": True, "norm_topk_prob": False}),
    "glm4-moe-bias": ("glm4_moe", {"attention_bias": True, "first_k_dense_replace": 0}),
    "phi3-window": ("phi3", {"sliding_window": WINDOW}),
    "ernie4_5-tied": ("ernie4_5", {"tie_word_embeddings": True}),
    "qwen3-window": ("qwen3", _SLIDING),
    "qwen3-attention-bias": ("qwen3", {"attention_bias": True}),
    "qwen3-tied-linear-rope": ("qwen3", {"tie_word_embeddings": True, "rope_parameters": _LINEAR}),
}

# name -> tokens that a Phi-3 with LongRoPE was trained on first; beyond them it turns by other frequencies
LONGROPES = {"phi3-longrope": 8, "phi3-longrope-of-half": 100}

# name -> arguments of tiny_llava
LLAVA_VARIANTS: dict[str, dict[str, Any]] = {
    "llava-window": {"text": "mistral", "text_overrides": {"sliding_window": WINDOW}},
    "llava-qwen2-window": {"tower": "siglip", "text": "qwen2", "text_overrides": _SLIDING},
    "llava-llama3-rope": {"text_overrides": {"rope_parameters": _LLAMA3}},
    "llava-linear-rope": {"text": "qwen3", "text_overrides": {"rope_parameters": _LINEAR}},
    "llava-tied": {"tie_word_embeddings": True, "text_overrides": {"tie_word_embeddings": True}},
    # Without what transformers does to the logits of these decoders alone, and forgets in a LLaVA.
    "llava-gemma2": {"tower": "siglip", "text": "gemma2", "text_overrides": {"final_logit_softcapping": None}},
    "llava-granite": {"text": "granite", "text_overrides": {"logits_scaling": 1.0}},
    "llava-biases": {"text_overrides": {"attention_bias": True, "mlp_bias": True}},
    "llava-no-projector-bias": {"multimodal_projector_bias": False},
    "llava-projector-quick-gelu": {"projector_hidden_act": "quick_gelu"},
    "clip-gelu": {"vision_overrides": {"hidden_act": "gelu"}},
    "siglip-gelu": {"tower": "siglip", "vision_overrides": {"hidden_act": "gelu"}},
    "clip-odd-patches": {"vision_overrides": {"image_size": 30}},  # the last 2 pixels belong to no patch
}

FEATURE_LAYERS: tuple[int | list[int], ...] = (-1, -2, -4, 1, 3, [-2], [0], [0, -1], [-3, 3, 1])
STRATEGIES = ("default", "full")
FEATURES: dict[str, dict[str, Any]] = {
    f"{tower}-{strategy}-{layer}": {
        "tower": tower,
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": strategy,
    }
    for tower in TOWERS
    for strategy in STRATEGIES
    for layer in FEATURE_LAYERS
}

# families that see otherwise than LLaVA-1.5
SEEING: dict[str, Callable[[Path], Path]] = {
    "llava-next": partial(tiny_llava, kind="LlavaNext"),
    "llava-next-siglip": partial(tiny_llava, kind="LlavaNext", tower="siglip", text="qwen2"),
    "llava-onevision": partial(tiny_llava, kind="LlavaOnevision", tower="siglip", text="qwen2"),
    "vipllava": partial(tiny_llava, kind="VipLlava"),
    "deepseek-vl": tiny_deepseek_vl,
    "gemma3": tiny_gemma3,
    "glm4v": tiny_glm_v,
    "glm4v-moe": partial(tiny_glm_v, kind="Glm4vMoe"),
    "glm46v": partial(tiny_glm_v, kind="Glm46V"),
    "glm-ocr": partial(tiny_glm_v, kind="GlmOcr"),
    "granite-vision": partial(
        tiny_llava,
        kind="LlavaNext",
        tower="siglip",
        text="granite",
        text_overrides={"logits_scaling": 1.0},
        vision_feature_layer=[-2, 1],
    ),
    "idefics3": tiny_idefics3,
    "internvl": tiny_internvl,
    "internvl-chat": tiny_internvl_chat,
    "internvl-chat-rms": partial(
        tiny_internvl_chat,
        text="qwen3",
        vision_feature_layer=-2,
        norm_type="rms_norm",
        use_qk_norm=True,
        attention_bias=False,
    ),
    "internvl-rms": partial(tiny_internvl, text="qwen3", norm_type="rms_norm", use_qk_norm=True, attention_bias=False),
    "mistral3": tiny_pixtral,
    "ministral3-vision": partial(tiny_pixtral, text="ministral3"),
    "lighton-ocr": partial(tiny_pixtral, kind="LightOnOcr", text="qwen3"),
    "llava-pixtral": partial(tiny_pixtral, kind="Llava"),
    "paddleocr-vl": tiny_paddleocr_vl,
    "paligemma": tiny_paligemma,
    "paligemma2": partial(tiny_paligemma, text="gemma2"),
    "qwen2-vl": partial(tiny_qwen_vl, kind="Qwen2VL"),
    "qwen2.5-vl": tiny_qwen_vl,
    "qwen3-vl": partial(tiny_qwen_vl, kind="Qwen3VL"),
    "qwen3-vl-moe": partial(tiny_qwen_vl, kind="Qwen3VLMoe"),
    "smolvlm": partial(tiny_idefics3, kind="SmolVLM"),
}


def _longrope(original: int) -> dict[str, Any]:
    share, factor = (0.5, {}) if original > 50 else (1.0, {"factor": 4.0})
    pairs = int(12 * share) // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": share,
        "short_factor": [1.0 + 0.1 * pair for pair in range(pairs)],
        "long_factor": [1.5 + pair for pair in range(pairs)],
        **factor,
    }
    return {"rope_parameters": rope, "original_max_position_embeddings": original}


MAKERS: dict[str, Callable[[Path], Path]] = {
    **{f"{tower}-{family}": partial(tiny_llava, tower=tower, text=family) for tower in TOWERS for family in FAMILIES},
    **{family: partial(tiny_text, family=family) for family in FAMILIES},
    **{name: partial(tiny_text, family=family, **changes) for name, (family, changes) in TEXT_VARIANTS.items()},
    **{name: partial(tiny_text, family="phi3", **_longrope(original)) for name, original in LONGROPES.items()},
    **{name: partial(tiny_llava, **changes) for name, changes in (LLAVA_VARIANTS | FEATURES).items()},
    **SEEING,
}

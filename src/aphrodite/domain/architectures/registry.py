"""The model families that Aphrodite runs: a config.json to the spec that the backends interpret."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.clip import read_clip
from aphrodite.domain.architectures.families.deepseek_vl import read_deepseek_vl
from aphrodite.domain.architectures.families.ernie4_5 import read_ernie4_5
from aphrodite.domain.architectures.families.gemma import read_gemma
from aphrodite.domain.architectures.families.gemma2 import read_gemma2
from aphrodite.domain.architectures.families.gemma3 import read_gemma3, read_gemma3_text
from aphrodite.domain.architectures.families.glm import read_glm, read_glm4, read_glm4v_text, read_glm_ocr_text
from aphrodite.domain.architectures.families.glm4_moe import read_glm4_moe, read_glm4v_moe_text
from aphrodite.domain.architectures.families.glm4v import read_glm4v, read_glm4v_tower, read_glm_ocr_tower
from aphrodite.domain.architectures.families.granite import read_granite
from aphrodite.domain.architectures.families.idefics3 import read_idefics3
from aphrodite.domain.architectures.families.internvl import read_intern_vit, read_internvl
from aphrodite.domain.architectures.families.internvl_chat import read_intern_vit_6b, read_internvl_chat
from aphrodite.domain.architectures.families.llama import read_llama
from aphrodite.domain.architectures.families.llava import read_llava
from aphrodite.domain.architectures.families.llava_next import read_llava_next
from aphrodite.domain.architectures.families.llava_onevision import read_llava_onevision
from aphrodite.domain.architectures.families.mistral import read_ministral3, read_mistral
from aphrodite.domain.architectures.families.mistral3 import read_lighton_ocr, read_mistral3
from aphrodite.domain.architectures.families.mixtral import read_mixtral
from aphrodite.domain.architectures.families.paddleocr_vl import (
    read_paddleocr_vl,
    read_paddleocr_vl_text,
    read_paddleocr_vl_tower,
)
from aphrodite.domain.architectures.families.paligemma import read_paligemma
from aphrodite.domain.architectures.families.phi3 import read_phi3
from aphrodite.domain.architectures.families.pixtral import read_pixtral
from aphrodite.domain.architectures.families.qwen2 import read_qwen2
from aphrodite.domain.architectures.families.qwen2_vl import read_qwen2_vl
from aphrodite.domain.architectures.families.qwen3 import read_qwen3
from aphrodite.domain.architectures.families.qwen3_vl import (
    read_qwen3_vl,
    read_qwen3_vl_text,
    read_qwen3_vl_tower,
)
from aphrodite.domain.architectures.families.qwen_moe import read_qwen2_moe, read_qwen3_moe, read_qwen3_vl_moe_text
from aphrodite.domain.architectures.families.qwen_vl_tower import read_qwen2_5_vl_tower, read_qwen2_vl_tower
from aphrodite.domain.architectures.families.siglip import read_siglip
from aphrodite.domain.architectures.families.vipllava import read_vipllava
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.errors import UnsupportedModelError

DECODERS: Mapping[str, Callable[[ConfigFields], DecoderSpec]] = MappingProxyType(
    {
        "llama": read_llama,
        "mistral": read_mistral,
        "ministral3": read_ministral3,
        "mixtral": read_mixtral,
        "phi3": read_phi3,
        "ernie4_5": read_ernie4_5,
        "paddleocr_vl_text": read_paddleocr_vl_text,
        "qwen2": read_qwen2,
        "qwen2_vl_text": read_qwen2,
        "qwen2_5_vl_text": read_qwen2,
        "qwen3": read_qwen3,
        "qwen2_moe": read_qwen2_moe,
        "qwen3_moe": read_qwen3_moe,
        "qwen3_vl_text": read_qwen3_vl_text,
        "qwen3_vl_moe_text": read_qwen3_vl_moe_text,
        "gemma": read_gemma,
        "gemma2": read_gemma2,
        "gemma3_text": read_gemma3_text,
        "glm": read_glm,
        "glm4": read_glm4,
        "glm4_moe": read_glm4_moe,
        "glm4v_text": read_glm4v_text,
        "glm4v_moe_text": read_glm4v_moe_text,
        "glm_ocr_text": read_glm_ocr_text,
        "granite": read_granite,
    }
)
TOWERS: Mapping[str, Callable[[ConfigFields], VisionSpec]] = MappingProxyType(
    {
        "clip_vision_model": read_clip,
        "siglip_vision_model": read_siglip,
        "idefics3_vision": read_siglip,
        "smolvlm_vision": read_siglip,
        "internvl_vision": read_intern_vit,
        "intern_vit_6b": read_intern_vit_6b,
        "pixtral": read_pixtral,
        "paddleocr_vl_vision": read_paddleocr_vl_tower,
        "glm4v_vision": read_glm4v_tower,
        "glm4v_moe_vision": read_glm4v_tower,
        "glm_ocr_vision": read_glm_ocr_tower,
        "qwen2_vl_vision": read_qwen2_vl_tower,
        "qwen2_5_vl_vision": read_qwen2_5_vl_tower,
        "qwen3_vl_vision": read_qwen3_vl_tower,
        "qwen3_vl_moe_vision": read_qwen3_vl_tower,
    }
)
VISION_MODELS: Mapping[str, Callable[[ConfigFields, DecoderSpec, VisionSpec], ModelSpec]] = MappingProxyType(
    {
        "deepseek_vl": read_deepseek_vl,
        "gemma3": read_gemma3,
        "internvl": read_internvl,
        "internvl_chat": read_internvl_chat,
        "llava": read_llava,
        "mistral3": read_mistral3,
        "lighton_ocr": read_lighton_ocr,
        "paligemma": read_paligemma,
        "paddleocr_vl": read_paddleocr_vl,
        "llava_next": read_llava_next,
        "llava_onevision": read_llava_onevision,
        "vipllava": read_vipllava,
        "idefics3": read_idefics3,
        "smolvlm": read_idefics3,
        "glm4v": read_glm4v,
        "glm4v_moe": read_glm4v,
        "glm46v": read_glm4v,
        "glm_ocr": read_glm4v,
        "qwen2_vl": read_qwen2_vl,
        "qwen2_5_vl": read_qwen2_vl,
        "qwen3_vl": read_qwen3_vl,
        "qwen3_vl_moe": read_qwen3_vl,
    }
)

# Models that take a packed tower.
_OF_ANY_SIZE = (
    "llava",
    "mistral3",
    "lighton_ocr",
    "paddleocr_vl",
    "glm4v",
    "glm4v_moe",
    "glm46v",
    "glm_ocr",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
)
_PREFIX_MASKED = ("paligemma",)  # models whose prompts see forward, as their decoder's configuration says


def read_model(config: Mapping[str, Any]) -> ModelSpec:
    """The model that a complete config.json describes, `transformers.AutoConfig(...).to_dict()`.

    Raises UnsupportedModelError, which names the value that we cannot run and lists what is supported.
    """
    fields = ConfigFields(config)
    model_type = fields.choice("model_type", (*VISION_MODELS, *DECODERS))
    if model_type not in VISION_MODELS:
        return ModelSpec(_read_decoder(fields))
    _check_not_quantized(fields)
    tower = fields.section("vision_config")
    vision = TOWERS[tower.choice("model_type", TOWERS)](tower)
    if vision.is_packed and model_type not in _OF_ANY_SIZE:
        raise tower.unsupported("model_type", f"a tower of one size for {model_type}")
    text = fields.section("llm_config" if model_type == "internvl_chat" else "text_config")
    decoder = _read_decoder(text, is_causal=model_type not in _PREFIX_MASKED)
    return VISION_MODELS[model_type](fields, decoder, vision)


def _read_decoder(config: ConfigFields, *, is_causal: bool = True) -> DecoderSpec:
    _check_not_quantized(config)
    if is_causal and config.flag("use_bidirectional_attention"):
        raise config.unsupported("use_bidirectional_attention", "false, as in models that write text")
    return DECODERS[config.choice("model_type", DECODERS)](config)


def _check_not_quantized(config: ConfigFields) -> None:
    if config.has("quantization_config"):
        method = config.section("quantization_config").values.get("quant_method", "unknown")
        raise UnsupportedModelError(
            f"The checkpoint is quantised ({method}); supported are float32, bfloat16 and float16 weights, and GGUF."
        )

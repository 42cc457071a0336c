"""Small configurations of every family, as transformers makes them."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers import (
    CLIPVisionConfig,
    Ernie4_5Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GraniteConfig,
    LlamaConfig,
    LlavaConfig,
    Ministral3Config,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
)

_DECODERS: tuple[type[PreTrainedConfig], ...] = (
    LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, GemmaConfig, Gemma2Config, Gemma3TextConfig,
    GlmConfig, Glm4Config, GraniteConfig, Ministral3Config, Phi3Config, Ernie4_5Config,
)  # fmt: skip
_TOWERS: tuple[type[PreTrainedConfig], ...] = (CLIPVisionConfig, SiglipVisionConfig)


@pytest.fixture
def make_decoder() -> Callable[..., PreTrainedConfig]:
    """`make_decoder(family, **overrides)` is the configuration of a small text model."""
    return _decoder_config


@pytest.fixture
def make_llava() -> Callable[..., LlavaConfig]:
    """`make_llava(family, tower, text={...}, vision={...}, **overrides)` is the configuration of a small LLaVA."""
    return _llava_config


def _decoder_config(family: str, **overrides: Any) -> PreTrainedConfig:
    settings: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    if family in ("glm", "glm4", "phi3"):
        settings["pad_token_id"] = None  # theirs is beyond so small a vocabulary
    kind = next(config for config in _DECODERS if config.model_type == family)
    return kind(**(settings | overrides))


def _tower_config(tower: str, **overrides: Any) -> PreTrainedConfig:
    settings = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 30,
        "patch_size": 7,
    }
    kind = next(config for config in _TOWERS if config.model_type == tower)
    return kind(**(settings | overrides))


def _llava_config(
    family: str = "llama",
    tower: str = "clip_vision_model",
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    **overrides: Any,
) -> LlavaConfig:
    return LlavaConfig(
        vision_config=_tower_config(tower, **(vision or {})),
        text_config=_decoder_config(family, **(text or {})),
        image_token_index=98,
        **overrides,
    )

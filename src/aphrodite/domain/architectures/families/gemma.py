"""Gemma (arXiv 2403.08295): norms that multiply with 1 + weight, and embeddings of unit variance."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_gemma(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("attention_bias")
    return as_gemma(read_decoder(config, qkv_bias=bias, output_bias=bias))


def as_gemma(decoder: DecoderSpec) -> DecoderSpec:
    """What all Gemmas have in common."""
    return replace(decoder, norm_offset=1.0, embedding_scale=decoder.hidden_size**0.5)

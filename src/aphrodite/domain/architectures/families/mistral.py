"""Mistral (arXiv 2310.06825): no biases, one sliding window for all layers; Ministral 3, whose queries grow with their
positions."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_mistral(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    window = config.integer("sliding_window") if config.has("sliding_window") else None
    windows = (window,) * config.integer("num_hidden_layers")
    return read_decoder(config, qkv_bias=False, output_bias=False, windows=windows)


def read_ministral3(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder, rope = read_mistral(config), config.section("rope_parameters")
    growth, original = rope.number("llama_4_scaling_beta"), rope.integer("original_max_position_embeddings")
    ropes = tuple(replace(each, query_growth=growth, original_max_position=original) for each in decoder.ropes)
    return replace(decoder, ropes=ropes)

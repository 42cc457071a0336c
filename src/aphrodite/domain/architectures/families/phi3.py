"""Phi-3 (arXiv 2404.14219): a Llama whose matrices are stored merged; a share of each head may turn."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_phi3(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    window = config.integer("sliding_window") if config.has("sliding_window") else None
    windows = (window,) * config.integer("num_hidden_layers")
    decoder = read_decoder(config, qkv_bias=False, output_bias=False, windows=windows, partial_rotation=True)
    return replace(decoder, is_qkv_merged=True, is_gate_up_merged=True)

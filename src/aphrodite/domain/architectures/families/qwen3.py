"""Qwen3 (arXiv 2505.09388): queries and keys are normalised over the head size."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder, read_layer_windows
from aphrodite.domain.architectures.spec import DecoderSpec


def read_qwen3(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("attention_bias")
    return read_decoder(config, qkv_bias=bias, output_bias=bias, qk_norm=True, windows=read_layer_windows(config))

"""Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on queries, keys and values alone; windows layer by layer."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder, read_layer_windows
from aphrodite.domain.architectures.spec import DecoderSpec


def read_qwen2(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return read_decoder(config, qkv_bias=True, output_bias=False, windows=read_layer_windows(config))

"""Llama (arXiv 2302.13971, 2307.09288, 2407.21783), and what is published in its form: Vicuna, SmolLM2 ..."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_llama(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("attention_bias")
    return read_decoder(config, qkv_bias=bias, output_bias=bias, mlp_bias=config.flag("mlp_bias"))

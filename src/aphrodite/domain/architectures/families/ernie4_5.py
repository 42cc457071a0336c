"""ERNIE 4.5 (its dense models): a Llama whose heads turn neighbours together."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_ernie4_5(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("use_bias")
    decoder = read_decoder(config, qkv_bias=bias, output_bias=bias, mlp_bias=bias)
    return replace(decoder, ropes=tuple(replace(rope, pairs_neighbours=True) for rope in decoder.ropes))

"""Granite 3: a Llama whose embeddings, residuals, attention and logits have multipliers."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec


def read_granite(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("attention_bias")
    decoder = read_decoder(
        config,
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
        attention_scale=config.number("attention_multiplier"),
    )
    return replace(
        decoder,
        input_scale=config.number("embedding_multiplier"),
        residual_scale=config.number("residual_multiplier"),
        logits_scale=1 / config.number("logits_scaling"),
    )

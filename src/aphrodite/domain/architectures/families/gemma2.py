"""Gemma 2 (arXiv 2408.00118): norms on both sides, bounded scores and logits, every other layer with a window."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder, read_layer_windows
from aphrodite.domain.architectures.families.gemma import as_gemma
from aphrodite.domain.architectures.spec import DecoderSpec, SandwichNorms

_NORMS = SandwichNorms("post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def read_gemma2(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("attention_bias")
    decoder = read_decoder(
        config,
        qkv_bias=bias,
        output_bias=bias,
        windows=read_layer_windows(config),
        attention_scale=config.number("query_pre_attn_scalar") ** -0.5,
        attention_softcap=config.optional_number("attn_logit_softcapping"),
        activation=config.activation("hidden_activation"),
    )
    softcap = config.optional_number("final_logit_softcapping")
    return replace(as_gemma(decoder), sandwich_norms=_NORMS, logits_softcap=softcap)

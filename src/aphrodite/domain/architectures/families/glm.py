"""GLM-4 (arXiv 2406.12793) and GLM-4-0414: half of each head turns, neighbours together; the latter has norms on both
sides."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import read_decoder
from aphrodite.domain.architectures.spec import DecoderSpec, SandwichNorms

_NORMS = SandwichNorms("post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")


def read_glm(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return as_glm(
        read_decoder(config, qkv_bias=config.flag("attention_bias"), output_bias=False, partial_rotation=True)
    )


def read_glm4(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return as_glm4(read_glm(config))


def as_glm(decoder: DecoderSpec) -> DecoderSpec:
    """What all GLMs have in common."""
    ropes = tuple(replace(rope, pairs_neighbours=True) for rope in decoder.ropes)
    return replace(decoder, ropes=ropes, is_gate_up_merged=True)


def as_glm4(decoder: DecoderSpec) -> DecoderSpec:
    """A GLM with the norms that GLM-4-0414 brought."""
    return replace(decoder, sandwich_norms=_NORMS)

"""GLM-4 (arXiv 2406.12793) and GLM-4-0414: half of each head turns, neighbours together; the latter has norms on both
sides."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections, read_decoder
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


def read_glm4v_text(config: ConfigFields) -> DecoderSpec:
    """GLM-4.1V's: a GLM-4-0414 that tells images' rows from columns. Raises UnsupportedModelError."""
    return _with_sections(config, qkv_bias=True)


def read_glm_ocr_text(config: ConfigFields) -> DecoderSpec:
    """GLM-OCR's, whose checkpoints hold a layer more, which guesses ahead. Raises UnsupportedModelError."""
    return replace(_with_sections(config, qkv_bias=False), num_spare_layers=1)


def as_glm(decoder: DecoderSpec) -> DecoderSpec:
    """What all GLMs have in common."""
    ropes = tuple(replace(rope, pairs_neighbours=True) for rope in decoder.ropes)
    return replace(decoder, ropes=ropes, is_gate_up_merged=True)


def as_glm4(decoder: DecoderSpec) -> DecoderSpec:
    """A GLM with the norms that GLM-4-0414 brought."""
    return replace(decoder, sandwich_norms=_NORMS)


def _with_sections(config: ConfigFields, *, qkv_bias: bool) -> DecoderSpec:
    decoder = read_decoder(config, qkv_bias=qkv_bias, output_bias=False, partial_rotation=True)
    check_sections(config, decoder)
    return as_glm4(as_glm(decoder))

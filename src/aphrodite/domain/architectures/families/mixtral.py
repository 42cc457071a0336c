"""Mixtral (arXiv 2401.04088): Mistral with experts in place of the MLP."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.experts import read_experts
from aphrodite.domain.architectures.families.mistral import read_mistral
from aphrodite.domain.architectures.spec import DecoderSpec


def read_mixtral(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder = read_mistral(config)
    experts = read_experts(config, "intermediate_size", is_renormalized=True)
    return replace(decoder, experts=(experts,) * decoder.num_layers)

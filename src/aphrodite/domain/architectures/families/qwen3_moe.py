"""Qwen3's mixtures of experts (arXiv 2505.09388): Qwen3 with experts in place of the MLP of all layers, or of some."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections
from aphrodite.domain.architectures.experts import read_experts
from aphrodite.domain.architectures.families.qwen3 import read_qwen3
from aphrodite.domain.architectures.spec import DecoderSpec


def read_qwen3_moe(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return _with_experts(config, is_renormalized=config.flag("norm_topk_prob"))


def read_qwen3_vl_moe_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder = _with_experts(config, is_renormalized=True)
    check_sections(config, decoder)
    return replace(decoder, ropes=tuple(replace(rope, alternates=True) for rope in decoder.ropes))


def _with_experts(config: ConfigFields, *, is_renormalized: bool) -> DecoderSpec:
    decoder = read_qwen3(config)
    experts = read_experts(config, "moe_intermediate_size", is_renormalized=is_renormalized)
    every, dense = config.integer("decoder_sparse_step"), config.values.get("mlp_only_layers") or ()
    if not isinstance(dense, list | tuple) or not all(type(index) is int for index in dense):
        raise config.unsupported("mlp_only_layers", "a list of layers, from 0")
    layers = range(decoder.num_layers)
    has_experts = [index not in dense and (index + 1) % every == 0 for index in layers]
    return replace(decoder, experts=tuple(experts if has_experts[index] else None for index in layers))

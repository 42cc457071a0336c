"""Qwen's mixtures of experts: Qwen2 (arXiv 2407.10671) and Qwen3 (arXiv 2505.09388) with experts in place of the MLP of
all layers, or of some."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections
from aphrodite.domain.architectures.experts import SharedExpert, read_experts
from aphrodite.domain.architectures.families.qwen2 import read_qwen2
from aphrodite.domain.architectures.families.qwen3 import read_qwen3
from aphrodite.domain.architectures.spec import DecoderSpec


def read_qwen2_moe(config: ConfigFields) -> DecoderSpec:
    """With one expert that all tokens go through. Raises UnsupportedModelError."""
    shared = SharedExpert(config.integer("shared_expert_intermediate_size"), True, "shared_expert")
    return _with_experts(config, read_qwen2(config), is_renormalized=config.flag("norm_topk_prob"), shared=shared)


def read_qwen3_moe(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return _with_experts(config, read_qwen3(config), is_renormalized=config.flag("norm_topk_prob"))


def read_qwen3_vl_moe_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder = _with_experts(config, read_qwen3(config), is_renormalized=True)
    check_sections(config, decoder)
    return replace(decoder, ropes=tuple(replace(rope, alternates=True) for rope in decoder.ropes))


def _with_experts(
    config: ConfigFields, decoder: DecoderSpec, *, is_renormalized: bool, shared: SharedExpert | None = None
) -> DecoderSpec:
    experts = replace(read_experts(config, "moe_intermediate_size", is_renormalized=is_renormalized), shared=shared)
    every, dense = config.integer("decoder_sparse_step"), config.values.get("mlp_only_layers") or ()
    if not isinstance(dense, list | tuple) or not all(type(index) is int for index in dense):
        raise config.unsupported("mlp_only_layers", "a list of layers, from 0")
    layers = range(decoder.num_layers)
    has_experts = [index not in dense and (index + 1) % every == 0 for index in layers]
    return replace(decoder, experts=tuple(experts if has_experts[index] else None for index in layers))

"""GLM-4.5 (arXiv 2508.06471) and the decoder of GLM-4.5V and -4.6V: experts behind some layers with an MLP, chosen by
sigmoids."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections, read_decoder
from aphrodite.domain.architectures.experts import SharedExpert, read_experts
from aphrodite.domain.architectures.spec import DecoderSpec


def read_glm4_moe(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias, qk_norm = config.flag("attention_bias"), config.flag("use_qk_norm")
    decoder = read_decoder(config, qkv_bias=bias, output_bias=False, qk_norm=qk_norm, partial_rotation=True)
    experts = read_experts(config, "moe_intermediate_size", is_renormalized=config.flag("norm_topk_prob"))
    num_groups, num_chosen = config.integer("n_group"), config.integer("topk_group")
    if experts.num_experts % num_groups or experts.num_experts < 2 * num_groups:
        raise config.unsupported("n_group", f"a divisor of the {experts.num_experts} experts that leaves two in each")
    if num_chosen > num_groups or experts.num_chosen > num_chosen * (experts.num_experts // num_groups):
        raise config.unsupported("topk_group", "at most n_group, and enough groups to choose num_experts_per_tok from")
    experts = replace(
        experts,
        scores="sigmoid",
        num_groups=num_groups,
        num_chosen_groups=num_chosen,
        has_correction=True,
        scale=config.number("routed_scaling_factor"),
        shared=SharedExpert(config.integer("n_shared_experts") * experts.inner_size, False, "shared_experts"),
    )
    num_dense = config.integer("first_k_dense_replace", low=0)
    by_layer = tuple(None if index < num_dense else experts for index in range(decoder.num_layers))
    return replace(decoder, experts=by_layer, num_spare_layers=1)  # behind the others, which guesses ahead


def read_glm4v_moe_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder = read_glm4_moe(config)
    check_sections(config, decoder)
    return decoder

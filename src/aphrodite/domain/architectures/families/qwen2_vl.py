"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): a Qwen2 that tells images' rows from columns."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import with_ties
from aphrodite.domain.architectures.families.qwen_vl_tower import qwen_vl_layout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_qwen2_vl(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    fields = config.section("vision_config")
    if tower.output_size != decoder.hidden_size:
        raise fields.unsupported("out_hidden_size", f"the decoder's hidden_size, {decoder.hidden_size}")
    layout = qwen_vl_layout(config.integer("image_token_id", low=0), fields, tower)
    return ModelSpec(with_ties(config, decoder), tower, layout)

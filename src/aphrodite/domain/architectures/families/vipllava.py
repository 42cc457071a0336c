"""ViP-LLaVA (arXiv 2312.00784): features of several layers side by side, normed in front of the projector."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import read_image_token_id, read_llava_tower, with_ties
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_family import VisionFamily


def read_vipllava(config: ConfigFields, decoder: DecoderSpec, family: VisionFamily) -> ModelSpec:
    """Raises UnsupportedModelError."""
    tower = read_llava_tower(config, decoder, family, drop_first_token=True, projector_bias=True)
    vision = replace(tower, projector_norm_eps=config.number("projector_layernorm_eps"))
    layout = FixedLayout(read_image_token_id(config), vision.num_image_tokens)
    return ModelSpec(with_ties(config, decoder), vision, layout)

"""DeepSeek-VL (arXiv 2403.05525): a SigLIP to its end, a two-layer projector, a Llama; pictures padded to a square."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import with_ties
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_deepseek_vl(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    projector = two_layers(tower.hidden_size, decoder.hidden_size, "gelu", bias=True)
    vision = replace(tower, has_post_norm=True, projector=projector)
    layout = FixedLayout(config.integer("image_token_id", low=0), vision.num_image_tokens)
    return ModelSpec(with_ties(config, decoder), vision, layout)

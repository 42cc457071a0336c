"""ViP-LLaVA (arXiv 2312.00784): features of several layers side by side, normed in front of the projector."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import feature_layers, read_image_token_id, with_ties
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.architectures.vision_spec import Normalize, VisionSpec


def read_vipllava(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    layers = feature_layers(config, tower.num_layers)
    width = tower.hidden_size * len(layers)
    norm = Normalize("projector_layernorm", "layer", width, config.number("projector_layernorm_eps"))
    projection = two_layers(width, decoder.hidden_size, config.activation("projector_hidden_act"), bias=True)
    vision = replace(tower, feature_layers=layers, drop_first_token=True, projector=(norm, *projection))
    layout = FixedLayout(read_image_token_id(config), vision.num_image_tokens)
    return ModelSpec(with_ties(config, decoder), vision, layout)

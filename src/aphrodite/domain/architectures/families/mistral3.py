"""Mistral 3.1 and later, Ministral 3, LightOnOCR: Pixtral's tower, squares of its patches merged."""

from dataclasses import replace

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import feature_layers, read_image_token_id, with_ties
from aphrodite.domain.architectures.families.pixtral import pixtral_layout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.architectures.vision_spec import Merge, Normalize, Project, VisionSpec


def read_mistral3(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    layers = feature_layers(config, tower.num_layers)
    if len(layers) != 1:
        raise config.unsupported("vision_feature_layer", "one layer")
    activation, bias = config.activation("projector_hidden_act"), config.flag("multimodal_projector_bias")
    vision = _merged(config, decoder, replace(tower, feature_layers=layers), activation, bias=bias)
    return ModelSpec(with_ties(config, decoder), vision, pixtral_layout(read_image_token_id(config), vision))


def read_lighton_ocr(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Over a Qwen3, and without words between the rows of features. Raises UnsupportedModelError."""
    vision = _merged(config, decoder, tower, "gelu", bias=False)
    layout = replace(pixtral_layout(read_image_token_id(config), vision), row_end="", end="")
    return ModelSpec(with_ties(config, decoder), vision, layout)


def _merged(
    config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec, activation: Activation, *, bias: bool
) -> VisionSpec:
    if not tower.is_packed:
        raise config.section("vision_config").unsupported("model_type", "pixtral")
    width, side = tower.hidden_size, config.integer("spatial_merge_size")
    return replace(
        tower,
        projector=(
            Normalize("norm", "rms", width, decoder.rms_norm_eps),
            Merge(side),
            Project("patch_merger.merging_layer", side**2 * width, width, bias=False, unfolded=side**2),
            *two_layers(width, decoder.hidden_size, activation, bias=bias),
        ),
    )

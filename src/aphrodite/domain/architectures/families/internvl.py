"""InternVL 2.5 to 3.5 (arXiv 2412.05271) in transformers' form: InternViT, tiles and a thumbnail, a Qwen or a Llama."""

from dataclasses import replace

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import feature_layers, with_ties
from aphrodite.domain.architectures.images.layout import TilesLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import read_tower, two_layers
from aphrodite.domain.architectures.vision_spec import Merge, Normalize, NormKind, QkNorm, VisionSpec

_PROJECTOR_EPS, _QK_NORM_EPS = 1e-5, 1e-6
_MAX_TILES = 12  # the image processor's default; a folder that says otherwise is taken at its word up to this many


def read_intern_vit(config: ConfigFields) -> VisionSpec:
    """InternViT: what attention and MLP add is scaled. Raises UnsupportedModelError."""
    if not config.flag("use_absolute_position_embeddings"):
        raise config.unsupported("use_absolute_position_embeddings", "true")
    tower = read_tower(config, has_class_token=True, has_pre_norm=False, patch_bias=True)
    return replace(
        tower,
        norm=read_norm(config),
        qkv_bias=config.flag("attention_bias"),
        qk_norm=QkNorm(tower.hidden_size, _QK_NORM_EPS) if config.flag("use_qk_norm") else None,
        has_layer_scale=True,
        has_post_norm=not config.flag("use_mean_pooling"),
    )


def read_norm(config: ConfigFields) -> NormKind:
    """Raises UnsupportedModelError."""
    return "rms" if config.choice("norm_type", ("layer_norm", "rms_norm")) == "rms_norm" else "layer"


def read_internvl(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    config.choice("vision_feature_select_strategy", ("default",))  # without the class token
    layers, activation = feature_layers(config, tower.num_layers), config.activation("projector_hidden_act")
    if len(layers) != 1:
        raise config.unsupported("vision_feature_layer", "one layer")
    vision = internvl_vision(config, decoder, tower, layers, activation)
    return ModelSpec(with_ties(config, decoder), vision, internvl_layout(config, vision, _MAX_TILES))


def internvl_vision(
    config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec, layers: tuple[int, ...], activation: Activation
) -> VisionSpec:
    """The tower with its features, squares of which are shuffled together. Raises UnsupportedModelError."""
    scale = round(1 / config.number("downsample_ratio"))
    side = tower.image_size // tower.patch_size
    if side % scale != 0:
        raise config.unsupported("downsample_ratio", f"one over a divisor of the {side} patches on a side")
    width = tower.hidden_size * scale**2
    return replace(
        tower,
        feature_layers=layers,
        has_post_norm=tower.has_post_norm and layers == (tower.num_layers,),
        drop_first_token=True,
        projector=(
            Merge(scale),
            Normalize("layer_norm", "layer", width, _PROJECTOR_EPS),
            *two_layers(width, decoder.hidden_size, activation, bias=True),
        ),
    )


def internvl_layout(config: ConfigFields, vision: VisionSpec, max_tiles: int) -> TilesLayout:
    """At most so many tiles and a thumbnail. Raises UnsupportedModelError."""
    return TilesLayout(
        placeholder_id=config.integer("image_token_id", low=0),
        features_per_tile=vision.num_image_tokens,
        max_units=max_tiles + 1,
        start="<img>",
        end="</img>",
        processor_options={"crop_to_patches": True},
    )

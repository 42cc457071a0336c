"""InternVL 2 to 3.5 as their authors publish them, `InternVLChatModel`: the same model in other words."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.internvl import internvl_layout, internvl_vision, read_norm
from aphrodite.domain.architectures.families.llava import feature_layers
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import read_tower
from aphrodite.domain.architectures.vision_spec import QkNorm, VisionSpec

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def read_intern_vit_6b(config: ConfigFields) -> VisionSpec:
    """InternViT of 300 million and of 6 billion weights alike. Raises UnsupportedModelError."""
    tower = read_tower(config, has_class_token=True, has_pre_norm=False, patch_bias=True)
    return replace(
        tower,
        norm=read_norm(config),
        qkv_bias=config.flag("qkv_bias"),
        qk_norm=QkNorm(tower.hidden_size, tower.norm_eps) if config.flag("qk_normalization") else None,
        has_layer_scale=True,
        is_qkv_merged=True,
    )


def read_internvl_chat(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """The folder's own image processor makes one tile of every picture, and its code the tiles: they are made by the
    image processor of transformers' form.

    Raises UnsupportedModelError.
    """
    config.choice("ps_version", ("v2",))  # v1 takes rows for columns
    if config.has("force_image_size") and config.integer("force_image_size") != tower.image_size:
        raise config.unsupported("force_image_size", f"the tower's image_size, {tower.image_size}")
    if config.flag("pad2square"):
        raise config.unsupported("pad2square", "false")
    is_tiled = config.flag("dynamic_image_size")
    if is_tiled and not config.flag("use_thumbnail"):
        raise config.unsupported("use_thumbnail", "true where dynamic_image_size is")
    max_tiles = config.integer("max_dynamic_patch") if is_tiled else 1
    vision = internvl_vision(config, decoder, tower, feature_layers(config, tower.num_layers, "select_layer"), "gelu")
    image_processor = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": tower.image_size, "width": tower.image_size},
        "min_patches": config.integer("min_dynamic_patch") if is_tiled else 1,
        "max_patches": max_tiles,
        **_IMAGENET,
    }
    return ModelSpec(decoder, vision, internvl_layout(config, vision, max_tiles), image_processor=image_processor)

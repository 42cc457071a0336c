"""Pixtral's vision tower (arXiv 2410.07073): pictures of any size, rotary positions in two dimensions, row breaks."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.images.grid import GridLayout
from aphrodite.domain.architectures.vision_config import read_axial_rope, read_tower
from aphrodite.domain.architectures.vision_spec import VisionSpec

_NORM_EPS = 1e-5


def read_pixtral(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    tower = read_tower(config, has_class_token=False, has_pre_norm=True, patch_bias=False, norm_eps=_NORM_EPS)
    return replace(
        tower,
        norm="rms",
        is_packed=True,
        has_position_table=False,
        rope=read_axial_rope(config, is_interleaved=True, head_dim=tower.hidden_size // tower.num_heads),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        is_gated=True,
    )


def pixtral_layout(placeholder_id: int, vision: VisionSpec) -> GridLayout:
    """Each row of features ends with a token, the last with another."""
    side = vision.merge_side
    unit = side * vision.patch_size  # pixels on the side of a feature
    return GridLayout(
        placeholder_id,
        side,
        max_units=(-(-vision.image_size // unit) * side) ** 2,
        row_end="[IMG_BREAK]",
        end="[IMG_END]",
        processor_options={"patch_size": unit},
    )

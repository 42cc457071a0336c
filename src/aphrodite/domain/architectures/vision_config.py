"""What the configurations of all vision towers share, and the projector that most models have."""

from dataclasses import replace
from typing import Literal

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.images.positions import PositionSquare
from aphrodite.domain.architectures.vision_spec import Activate, AxialRope, NormKind, Project, ProjectorStep, VisionSpec


def read_tower(
    tower: ConfigFields, *, has_class_token: bool, has_pre_norm: bool, patch_bias: bool, norm_eps: float | None = None
) -> VisionSpec:
    """A tower from its configuration and from what its family says, without projector; its features are the last
    layer's. `norm_eps` None: the configuration has it.

    Raises UnsupportedModelError.
    """
    if tower.integer("num_channels") != 3:
        raise tower.unsupported("num_channels", "3")
    image_size, patch_size = tower.side("image_size"), tower.side("patch_size")
    if patch_size > image_size:
        raise tower.unsupported("patch_size", f"at most image_size, {image_size}")
    hidden_size, num_heads = tower.integer("hidden_size"), tower.integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise tower.unsupported("num_attention_heads", f"a divisor of hidden_size, {hidden_size}")
    num_layers = tower.integer("num_hidden_layers")
    return VisionSpec(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        intermediate_size=tower.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        norm="layer",
        norm_eps=tower.number("layer_norm_eps") if norm_eps is None else norm_eps,
        activation=tower.activation("hidden_act"),
        has_class_token=has_class_token,
        has_pre_norm=has_pre_norm,
        patch_bias=patch_bias,
        feature_layers=(num_layers,),
    )


def read_packed_tower(
    tower: ConfigFields, hidden_size: int, intermediate_size: int, *, norm: NormKind, norm_eps: float
) -> VisionSpec:
    """A tower of pictures of any size, in squares of patches, as Qwen2-VL's (arXiv 2409.12191), without projector.

    Raises UnsupportedModelError.
    """
    if tower.integer("in_channels") != 3:
        raise tower.unsupported("in_channels", "3")
    num_heads, num_layers, patch_size = tower.integer("num_heads"), tower.integer("depth"), tower.side("patch_size")
    if hidden_size % num_heads != 0:
        raise tower.unsupported("num_heads", f"a divisor of the tower's width, {hidden_size}")
    return VisionSpec(
        image_size=patch_size * tower.integer("spatial_merge_size"),
        patch_size=patch_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        num_heads=num_heads,
        norm=norm,
        norm_eps=norm_eps,
        activation=tower.activation("hidden_act"),
        has_class_token=False,
        has_pre_norm=False,
        patch_bias=False,
        feature_layers=(num_layers,),
        is_packed=True,
        has_position_table=False,
        rope=read_axial_rope(tower, is_interleaved=False, head_dim=hidden_size // num_heads),
        patch_depth=tower.integer("temporal_patch_size"),
        is_qkv_merged=True,
    )


def with_position_square(vision: VisionSpec, side: int, *, kind: Literal["corners", "linear", "cubic"]) -> VisionSpec:
    """A packed tower whose positions are interpolated from side * side learned ones."""
    square = PositionSquare(side, kind)
    return replace(vision, image_size=side * vision.patch_size, has_position_table=True, position_square=square)


def two_layers(inputs: int, outputs: int, activation: Activation, *, bias: bool) -> tuple[ProjectorStep, ...]:
    """The projector of LLaVA-1.5 and of most that came after it."""
    return (
        Project("linear_1", inputs, outputs, bias),
        Activate(activation),
        Project("linear_2", outputs, outputs, bias),
    )


def read_axial_rope(tower: ConfigFields, *, is_interleaved: bool, head_dim: int) -> AxialRope:
    """Raises UnsupportedModelError."""
    rope = tower.section("rope_parameters")
    rope.choice("rope_type", ("axial",))
    if head_dim % 4 != 0:
        raise tower.unsupported("num_attention_heads", "one with heads of a multiple of 4")
    return AxialRope(rope.number("rope_theta"), is_interleaved)

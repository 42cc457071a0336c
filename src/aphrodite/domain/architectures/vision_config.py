"""What the configurations of all vision towers share."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.spec import Activation, VisionSpec
from aphrodite.domain.architectures.vision_family import VisionFamily


def read_tower(
    tower: ConfigFields,
    family: VisionFamily,
    *,
    feature_layers: tuple[int, ...],
    drop_first_token: bool,
    projector_activation: Activation,
    projector_bias: bool,
    text_hidden_size: int,
) -> VisionSpec:
    """A tower from its configuration, with what its family and its model say of it. Raises UnsupportedModelError."""
    if tower.integer("num_channels") != 3:
        raise tower.unsupported("num_channels", "3")
    image_size, patch_size = tower.side("image_size"), tower.side("patch_size")
    if patch_size > image_size:
        raise tower.unsupported("patch_size", f"at most image_size, {image_size}")
    hidden_size, num_heads = tower.integer("hidden_size"), tower.integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise tower.unsupported("num_attention_heads", f"a divisor of hidden_size, {hidden_size}")
    return VisionSpec(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        intermediate_size=tower.integer("intermediate_size"),
        num_layers=tower.integer("num_hidden_layers"),
        num_heads=num_heads,
        norm_eps=tower.number("layer_norm_eps"),
        activation=tower.activation("hidden_act"),
        has_class_token=family.has_class_token,
        has_pre_norm=family.has_pre_norm,
        patch_bias=family.patch_bias,
        feature_layers=feature_layers,
        drop_first_token=drop_first_token,
        projector_activation=projector_activation,
        projector_bias=projector_bias,
        text_hidden_size=text_hidden_size,
    )

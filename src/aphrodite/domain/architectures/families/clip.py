"""CLIP's vision tower (arXiv 2103.00020): a class token before the patches, a norm before the layers."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.vision_config import read_tower
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_clip(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    return read_tower(config, has_class_token=True, has_pre_norm=True, patch_bias=False)

"""SigLIP's vision tower (arXiv 2303.15343): patches alone."""

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.vision_config import read_tower
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_siglip(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    return read_tower(config, has_class_token=False, has_pre_norm=False, patch_bias=True)

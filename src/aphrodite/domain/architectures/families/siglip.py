"""SigLIP's vision tower (arXiv 2303.15343): patches alone."""

from aphrodite.domain.architectures.vision_family import VisionFamily

SIGLIP = VisionFamily(has_class_token=False, has_pre_norm=False, patch_bias=True)

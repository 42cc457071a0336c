"""CLIP's vision tower (arXiv 2103.00020): a class token before the patches, a norm before the layers."""

from aphrodite.domain.architectures.vision_family import VisionFamily

CLIP = VisionFamily(has_class_token=True, has_pre_norm=True, patch_bias=False)

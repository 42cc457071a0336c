"""What sets one vision tower apart from another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisionFamily:
    """The traits that a tower's configuration does not spell out."""

    has_class_token: bool
    has_pre_norm: bool
    patch_bias: bool

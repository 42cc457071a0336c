"""A vision tower and its projector as data: what both backends interpret.

Letters: P patches, E the tower's hidden size.
"""

from dataclasses import dataclass
from typing import Literal

from aphrodite.domain.architectures.activation import Activation

NormKind = Literal["layer", "rms"]

QK_NORM_EPS = 1e-6
"""Of the norms of queries and keys; no configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class Project:
    """A step of the projector: a matrix product."""

    name: str  # of its tensors, behind "projector."
    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True, slots=True)
class Normalize:
    """A step of the projector: a norm over all that a row holds."""

    name: str  # of its tensors, behind "projector."
    kind: NormKind
    width: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Activate:
    """A step of the projector."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class Merge:
    """A step of the projector: squares of side * side patches become one row each, row by row of squares."""

    side: int


ProjectorStep = Project | Normalize | Activate | Merge


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """A vision transformer (CLIP, SigLIP ...), and the projector that brings its features into the decoder."""

    image_size: int  # pixels on a side
    patch_size: int  # pixels on a side
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    norm: NormKind
    norm_eps: float
    activation: Activation
    has_class_token: bool  # one learned token in front of the patches
    has_pre_norm: bool  # between embeddings and layers
    patch_bias: bool
    feature_layers: tuple[int, ...]  # indexes into the hidden states, 0 is the embeddings; joined along the hidden size
    qkv_bias: bool = True
    qk_norm: bool = False  # RMS norm of queries and keys, each over all heads together
    has_layer_scale: bool = False  # a learned factor a number, of what attention and MLP add
    has_post_norm: bool = False  # LayerNorm behind the last layer, which is then the one feature layer
    drop_first_token: bool = False  # the first token (CLIP's class token) is no feature
    projector: tuple[ProjectorStep, ...] = ()
    has_newline: bool = False  # one learned vector, behind the rows of features

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_bytes(self) -> int:
        """Of a patch's pixels."""
        return 3 * self.patch_size**2

    @property
    def num_positions(self) -> int:
        return self.num_patches + self.has_class_token

    @property
    def merge_side(self) -> int:
        """So many patches on a side become one feature."""
        return next((step.side for step in self.projector if isinstance(step, Merge)), 1)

    @property
    def output_size(self) -> int:
        """Of a feature: the decoder's hidden size."""
        return next((step.outputs for step in reversed(self.projector) if isinstance(step, Project)), self.hidden_size)

    @property
    def num_image_tokens(self) -> int:
        """How many features the projector makes of a segment."""
        return (self.num_positions - self.drop_first_token) // self.merge_side**2

    @property
    def max_features_per_segment(self) -> int:
        """Of an image cut into segments of this size, learned vectors between them counted in."""
        return self.num_image_tokens + (self.image_size // self.patch_size if self.has_newline else 0)

    @property
    def num_used_layers(self) -> int:
        """Layers that reach a feature layer; those above are never run."""
        return max(self.feature_layers)

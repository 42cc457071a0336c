"""A vision tower and its projector as data: what both backends interpret.

Letters: P patches, E the tower's hidden size.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.images.positions import PositionSquare

NormKind = Literal["layer", "rms"]


@dataclass(frozen=True, slots=True)
class QkNorm:
    """RMS norm of queries and keys, before they are rotated."""

    size: int  # numbers that are normed together: a head's, or those of all heads
    epsilon: float


@dataclass(frozen=True, slots=True)
class AxialRope:
    """Rotary positions in two dimensions: half of each head's pairs turn with the row, half with the column."""

    theta: float
    is_interleaved: bool  # rows take every second of the head's frequencies, columns those between; else both the same

    def inverse_frequencies(self, head_dim: int) -> np.ndarray:
        """The angle per row and per column of each pair of head dimensions, float32 [2, head_dim / 4]."""
        exponents = np.arange(0, head_dim, 4, dtype=np.float32) / np.float32(head_dim)
        shifted = exponents + np.float32(2 / head_dim) if self.is_interleaved else exponents
        return (1.0 / np.float32(self.theta) ** np.stack((exponents, shifted))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Project:
    """A step of the projector: a matrix product."""

    name: str  # of its tensors, behind "projector."
    inputs: int
    outputs: int
    bias: bool
    is_transposed: bool = False  # in the checkpoint, where it has no ".weight" either
    unfolded: int = 1  # the checkpoint's inputs are so many patches' numbers, channel by channel (torch's `unfold`)
    is_convolution: bool = False  # in the checkpoint, over a square of the unfolded patches
    stacked: tuple[str, ...] = ()  # names that it has in the checkpoint, where it is several, of as many outputs each


@dataclass(frozen=True, slots=True)
class Normalize:
    """A step of the projector: a norm over all that a row holds."""

    name: str  # of its tensors, behind "projector."
    kind: NormKind
    width: int
    epsilon: float
    offset: float = 0.0  # added to the checkpoint's weights


@dataclass(frozen=True, slots=True)
class Activate:
    """A step of the projector."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class Gate:
    """A step of the projector: the first half of a row's numbers, activated, times the second."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class Merge:
    """A step of the projector: squares of side * side patches become one row each, row by row of squares.

    In a packed tower the patches of a square follow each other.
    """

    side: int


@dataclass(frozen=True, slots=True)
class Average:
    """A step of the projector: squares of side * side patches become their mean, row by row of squares."""

    side: int


ProjectorStep = Project | Normalize | Activate | Gate | Merge | Average


@dataclass(frozen=True, slots=True)
class DeepLevel:
    """Features of a lower layer, which the decoder adds behind a layer of its own (DeepStack, arXiv 2406.04334)."""

    layer: int  # index into the hidden states, as of feature layers
    projector: tuple[ProjectorStep, ...]


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
    is_packed: bool = False  # segments have any length; else each is a square of `image_size`
    has_patch_norm: bool = False  # of the patches alone, before their positions are added
    has_position_table: bool = True  # a learned vector a position
    position_square: PositionSquare | None = None  # of which a packed tower's positions are interpolated
    rope: AxialRope | None = None  # queries and keys are rotated by their patch's row and column
    windowed_layers: tuple[int, ...] = ()  # where patches see those of their window only
    patch_depth: int = 1  # pictures in a row that make a patch; all are the same one
    is_qkv_merged: bool = False  # in the checkpoint
    qkv_bias: bool = True
    output_bias: bool = True  # of the attention's output projection
    mlp_bias: bool = True
    is_gated: bool = False  # the MLP is gate, up and down
    qk_norm: QkNorm | None = None
    has_layer_scale: bool = False  # a learned factor a number, of what attention and MLP add
    has_post_norm: bool = False  # LayerNorm behind the last layer, which is then the one feature layer
    drop_first_token: bool = False  # the first token (CLIP's class token) is no feature
    projector: tuple[ProjectorStep, ...] = ()
    deep_levels: tuple[DeepLevel, ...] = ()
    has_newline: bool = False  # one learned vector, behind the rows of features
    taps_per_feature: int = 1  # projected rows that a feature is a weighted sum of

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
        return next((step.side for step in self.projector if isinstance(step, Merge | Average)), 1)

    @property
    def projector_steps(self) -> tuple[ProjectorStep, ...]:
        """Of all levels."""
        return self.projector + tuple(step for level in self.deep_levels for step in level.projector)

    @property
    def output_size(self) -> int:
        """Of each level of a feature: the decoder's hidden size."""
        return next((step.outputs for step in reversed(self.projector) if isinstance(step, Project)), self.hidden_size)

    @property
    def num_image_tokens(self) -> int:
        """How many features the projector makes of a segment."""
        return (self.num_positions - self.drop_first_token) // self.merge_side**2

    def max_features(self, num_units: int) -> int:
        """Of so many segments, or patches of a packed tower, learned vectors between them counted in."""
        if self.is_packed:
            return num_units // self.merge_side**2
        return num_units * (self.num_image_tokens + (self.image_size // self.patch_size if self.has_newline else 0))

    @property
    def taken_layers(self) -> tuple[int, ...]:
        """Hidden states that become features."""
        return self.feature_layers + tuple(level.layer for level in self.deep_levels)

    @property
    def num_used_layers(self) -> int:
        """Layers that reach one of these; those above are never run."""
        return max(self.taken_layers)

"""A model as data: what both backends interpret.

Letters: T tokens of a step, H heads, K key/value heads, D head size, E hidden size, P patches, L layers.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aphrodite.domain.architectures.images.layout import ImageLayout

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu"]


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (arXiv 2104.09864), with linear or Llama 3.1 stretching of its wavelengths."""

    theta: float
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192

    def inverse_frequencies(self, head_dim: int) -> np.ndarray:
        """The angle per position of each pair of head dimensions, float32 [head_dim / 2]."""
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        plain = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.kind == "default":
            return plain
        if self.kind == "linear":
            return (plain / np.float32(self.factor)).astype(np.float32)
        # Llama 3.1: long wavelengths are stretched, short ones kept, those between blended.
        wavelengths = 2 * np.pi / plain
        rotations = self.original_max_position / wavelengths
        blend = (rotations - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(blend, 0.0, 1.0)
        return ((1 - kept) * plain / self.factor + kept * plain).astype(np.float32)


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A pre-norm text decoder with gated MLP, RMSNorm and rotary positions (Llama, Mistral, Qwen)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int  # longest context the positions were trained for, in tokens
    rms_norm_eps: float
    rope: RopeSpec
    activation: Activation
    qkv_bias: bool
    output_bias: bool  # of the attention's output projection
    mlp_bias: bool
    qk_norm: bool  # RMSNorm over the head size of queries and keys, before the rotation
    windows: tuple[int | None, ...]  # [L] sliding window in tokens, None for full attention
    tied_embeddings: bool


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """A vision transformer (CLIP, SigLIP) and the two-layer projector into the decoder's hidden size (LLaVA-1.5)."""

    image_size: int  # pixels on a side
    patch_size: int  # pixels on a side
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    norm_eps: float
    activation: Activation
    has_class_token: bool  # one learned token in front of the patches
    has_pre_norm: bool  # LayerNorm between embeddings and layers
    patch_bias: bool
    feature_layers: tuple[int, ...]  # indexes into the hidden states, 0 is the embeddings; joined along the hidden size
    drop_first_token: bool  # "default" feature selection: the first token (CLIP's class token) is left out
    projector_activation: Activation
    projector_bias: bool
    text_hidden_size: int
    projector_norm_eps: float | None = None  # of a LayerNorm in front of the projector; None: there is none
    has_newline: bool = False  # one learned vector, behind the rows of features
    has_post_norm: bool = False  # LayerNorm behind the last layer, which is then the one feature layer
    pixel_shuffle: int = 1  # so many patches on a side become one feature, side by side
    num_projector_layers: int = 2

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
    def num_image_tokens(self) -> int:
        """How many features the projector makes of a segment."""
        return (self.num_positions - self.drop_first_token) // self.pixel_shuffle**2

    @property
    def max_features_per_segment(self) -> int:
        """Of an image cut into segments of this size, learned vectors between them counted in."""
        return self.num_image_tokens + (self.image_size // self.patch_size if self.has_newline else 0)

    @property
    def num_used_layers(self) -> int:
        """Layers that reach a feature layer; those above are never run."""
        return max(self.feature_layers)


@dataclass(frozen=True, slots=True)
class PixelNormalization:
    """How uint8 pixels become the vision tower's input: `(pixel * scale - mean) / std`, a value a colour channel."""

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A whole model: the decoder and, where it sees, the tower and how images stand in a prompt."""

    decoder: DecoderSpec
    vision: VisionSpec | None = None
    images: ImageLayout | None = None

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for an image in a prompt; None for a text-only model."""
        return None if self.images is None else self.images.placeholder_id

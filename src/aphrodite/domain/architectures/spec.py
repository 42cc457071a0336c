"""A model as data: what both backends interpret.

Letters: T tokens of a step, H heads, K key/value heads, D head size, E hidden size, P patches, L layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.experts import ExpertsSpec
from aphrodite.domain.architectures.images.layout import ImageLayout
from aphrodite.domain.architectures.vision_spec import VisionSpec


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (arXiv 2104.09864), with linear, Llama 3.1, YaRN or LongRoPE stretching of its
    wavelengths."""

    theta: float
    kind: Literal["default", "linear", "llama3", "yarn", "longrope"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192
    beta_fast: float = 32.0  # YaRN keeps pairs that turn so often within the original positions, and stretches those
    beta_slow: float = 1.0  # that turn less often than this
    stretches: tuple[float, ...] = ()  # LongRoPE's (arXiv 2402.13753), of each pair that turns
    long_stretches: tuple[float, ...] = ()  # in their place for contexts beyond the original positions
    amplitude: float = 1.0  # of cosines and sines, of pairs that turn
    query_growth: float = 0.0  # queries are multiplied with 1 + so much * log(1 + position // original_max_position)
    sections: tuple[int, ...] = ()  # pairs that turn by a token's time, row and column each (M-RoPE, arXiv 2409.12191);
    # (): all by time, which in text is the one position
    alternates: bool = False  # sections take turns pair by pair, time, row, column ..., as long as each has pairs left;
    # time has those that remain (Qwen3-VL, arXiv 2511.21631)
    num_rotated: int | None = None  # numbers of a head that turn, the first; None: all
    pairs_neighbours: bool = False  # numbers 0 and 1 turn together, 2 and 3 ...; else the first half with the second

    def head_order(self, head_dim: int) -> np.ndarray:
        """A head's numbers as the backends have them, who turn number i with i + head_dim / 2: int [head_dim].

        Attention's scores are the same in any order that queries and keys share.
        """
        num_rotated = self.num_rotated or head_dim
        turned = np.arange(num_rotated)
        pairs = turned.reshape(-1, 2).T if self.pairs_neighbours else turned.reshape(2, -1)
        return np.concatenate((pairs, np.arange(num_rotated, head_dim).reshape(2, -1)), axis=1).reshape(-1)

    def for_contexts(self, max_model_len: int) -> "RopeSpec":
        """As it turns where contexts of so many tokens may come: LongRoPE has two sets of frequencies."""
        is_long = self.long_stretches and max_model_len > self.original_max_position
        return replace(self, stretches=self.long_stretches) if is_long else self

    def axes(self, head_dim: int) -> np.ndarray:
        """Which of a token's three positions turns each pair of head dimensions, int32 [head_dim / 2]."""
        axes = np.repeat(np.arange(3, dtype=np.int32), self.sections or (head_dim // 2, 0, 0))
        if self.alternates:
            pairs = np.arange(len(axes))
            axes = np.where(pairs // 3 < np.array(self.sections)[pairs % 3], pairs % 3, 0).astype(np.int32)
        return np.pad(axes, (0, head_dim // 2 - len(axes)))

    def inverse_frequencies(self, head_dim: int) -> np.ndarray:
        """The angle per position of each pair of head dimensions, float32 [head_dim / 2]: 0 where none turns."""
        num_rotated = self.num_rotated or head_dim
        return np.pad(self._frequencies(num_rotated), (0, (head_dim - num_rotated) // 2))

    def amplitudes(self, head_dim: int) -> np.ndarray:
        """What multiplies each pair's cosine and sine, float32 [head_dim / 2]: 1 where none turns."""
        num_turned = (self.num_rotated or head_dim) // 2
        return np.where(np.arange(head_dim // 2) < num_turned, self.amplitude, 1.0).astype(np.float32)

    def _frequencies(self, num_rotated: int) -> np.ndarray:
        exponents = np.arange(0, num_rotated, 2, dtype=np.float32) / np.float32(num_rotated)
        plain = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.kind == "default":
            return plain
        if self.kind == "linear":
            return (plain / np.float32(self.factor)).astype(np.float32)
        if self.kind == "longrope":
            return (plain / np.array(self.stretches, np.float32)).astype(np.float32)
        if self.kind == "yarn":
            stretched = self._yarn_ramp(num_rotated)
            turned: np.ndarray = plain / np.float32(self.factor) * stretched + plain * (1 - stretched)
            return turned.astype(np.float32)
        # Llama 3.1: long wavelengths are stretched, short ones kept, those between blended.
        wavelengths = 2 * np.pi / plain
        rotations = self.original_max_position / wavelengths
        blend = (rotations - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(blend, 0.0, 1.0)
        return ((1 - kept) * plain / self.factor + kept * plain).astype(np.float32)

    def _yarn_ramp(self, num_rotated: int) -> np.ndarray:
        """How much of its stretching each pair gets, 0 to 1, float32 [num_rotated / 2] (YaRN, arXiv 2309.00071)."""

        def pair(num_turns: float) -> float:
            wavelengths = self.original_max_position / (num_turns * 2 * math.pi)
            return num_rotated * math.log(wavelengths) / (2 * math.log(self.theta))

        low, high = max(math.floor(pair(self.beta_fast)), 0), min(math.ceil(pair(self.beta_slow)), num_rotated - 1)
        places = np.arange(num_rotated // 2, dtype=np.float32)
        ramp: np.ndarray = (places - low) / np.float32(high - low if high != low else 0.001)
        return ramp.clip(0, 1)


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What a layer makes of the products of queries and keys, and how far back it sees."""

    scale: float  # that the products are multiplied with
    window: int | None = None  # tokens, a token's own included; None: all
    softcap: float | None = None  # a bound that scores bend to: softcap * tanh(score / softcap) (arXiv 2408.00118)


class SandwichNorms(NamedTuple):
    """What a checkpoint calls the norms around attention and MLP, where there is one on both sides of each."""

    after_attention: str
    before_mlp: str
    after_mlp: str


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A text decoder with gated MLP, RMSNorm and rotary positions (Llama, Mistral, Qwen, Gemma, Granite, GLM)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int  # longest context the positions were trained for, in tokens
    rms_norm_eps: float
    ropes: tuple[RopeSpec, ...]  # [L]
    activation: Activation
    qkv_bias: bool
    output_bias: bool  # of the attention's output projection
    mlp_bias: bool
    qk_norm: bool  # RMSNorm over the head size of queries and keys, before the rotation
    attention: tuple[AttentionSpec, ...]  # [L]
    experts: tuple[ExpertsSpec | None, ...]  # [L], in place of the layer's MLP
    tied_embeddings: bool
    norm_offset: float = 0.0  # RMS norms multiply with so much more than the checkpoint's weights
    sandwich_norms: SandwichNorms | None = None  # RMSNorm behind attention and MLP too, before their results are added
    is_qkv_merged: bool = False  # in the checkpoint
    is_gate_up_merged: bool = False  # as well
    num_spare_layers: int = 0  # behind the others in the checkpoint, never run
    deepstack_layers: tuple[int, ...] = ()  # behind each of these a further level of an image's features is added
    embedding_scale: float = 1.0  # of the tokens' embeddings; pictures' features stay as they are
    input_scale: float = 1.0  # of all that goes into the first layer
    residual_scale: float = 1.0  # of what attention and MLP add
    logits_scale: float = 1.0
    logits_softcap: float | None = None  # as attention's

    def for_contexts(self, max_model_len: int) -> "DecoderSpec":
        """As RopeSpec's."""
        return replace(self, ropes=tuple(rope.for_contexts(max_model_len) for rope in self.ropes))


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
    sees_forward: Literal["image", "prompt"] | None = None  # whose tokens see each other, those behind them as well: an
    # image's features, or all of a prompt
    text_start: str = ""  # written behind the last image of a prompt, in place of the tokenizer's own start; with
    text_end: str = ""  # this behind the prompt
    image_margin: str = ""  # text on both sides of what stands for an image, read as one with the text around it
    image_processor: Mapping[str, Any] | None = None  # in the words of a preprocessor_config.json; None: the
    # folder's own

    @property
    def feature_size(self) -> int:
        """Of a feature: numbers of all its levels."""
        return (1 + len(self.decoder.deepstack_layers)) * self.decoder.hidden_size

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for an image in a prompt; None for a text-only model."""
        return None if self.images is None else self.images.placeholder_id

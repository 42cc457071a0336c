"""The vision tower (CLIP, SigLIP) and LLaVA's projector.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
"""

import math

import torch
from torch import Tensor

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.backends.cuda.vision_functions import VisionFunctions
from aphrodite.domain.architectures.spec import PixelNormalization, VisionSpec

_MAX_BATCH = 32  # segments encoded at once: enough to fill a GPU, and it bounds the activations' memory


class VisionTower:
    """Patches to features in the decoder's hidden size."""

    def __init__(self, spec: VisionSpec, weights: dict[str, Tensor], normalization: PixelNormalization) -> None:
        """Takes its matrices out of `weights`, so that none is kept beside its packed copy."""
        self.spec = spec
        self._weights = weights
        layers = [f"vision.layers.{index}" for index in range(spec.num_used_layers)]
        names = [f"{layer}.{part}" for layer in layers for part in ("qkv", "output", "fc1", "fc2")]
        self._products: dict[str, Linear] = {
            name: linear(weights.pop(f"{name}.weight"), weights.get(f"{name}.bias"))
            for name in [*names, *(f"projector.linear_{i + 1}" for i in range(spec.num_projector_layers))]
        }
        # Patches do not overlap: the convolution over them is a product of their pixels [3 * size * size].
        patch = weights.pop("vision.patch.weight").flatten(1)
        self._products["vision.patch"] = linear(patch, weights.get("vision.patch.bias"))
        self._projector_activation = activation(spec.projector_activation)
        position = weights["vision.position"]
        device, self._dtype = position.device, position.dtype
        head_dim = spec.hidden_size // spec.num_heads
        self._functions = VisionFunctions.choose(spec.activation, head_dim, self._dtype, device)
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        self._mean = (mean / normalization.scale).to(device)[:, None]  # [3, 1] of the bytes
        self._scale = (normalization.scale / std).to(device)[:, None]

    @property
    def learned(self) -> Tensor | None:
        """The learned vectors that may stand between features, [n, decoder hidden size]; None where there are none."""
        return self._weights["projector.newline"][None] if self.spec.has_newline else None

    def encode(self, patches: Tensor) -> Tensor:
        """Patches uint8 [N, patches, patch bytes], on the device, to rows [N, image tokens, decoder hidden size]."""
        return torch.cat([self._encode(batch) for batch in torch.split(patches, _MAX_BATCH)])

    def _encode(self, patches: Tensor) -> Tensor:
        spec = self.spec
        hidden = self._embed(patches)
        states = {0: hidden}
        for index in range(spec.num_used_layers):
            hidden = self._layer(hidden, f"vision.layers.{index}")
            states[index + 1] = hidden
        if spec.has_post_norm:
            states[spec.num_layers] = self._norm(hidden, "vision.post_norm")
        features = torch.cat([states[index] for index in spec.feature_layers], dim=-1)
        if spec.drop_first_token:
            features = features[:, 1:]
        if spec.projector_norm_eps is not None:
            features = self._norm(features, "projector.norm", spec.projector_norm_eps)
        features = _shuffle(features, spec.pixel_shuffle)
        projected = self._products["projector.linear_1"](features)
        if spec.num_projector_layers == 1:
            return projected
        return self._products["projector.linear_2"](self._projector_activation(projected))

    def _embed(self, patches: Tensor) -> Tensor:
        """uint8 [N, patches, patch bytes] to embeddings [N, P, E]; normalised here, so that only bytes travel."""
        weights = self._weights
        channels = patches.view(*patches.shape[:2], 3, -1).float()  # [N, patches, 3, pixels]
        normalized = (channels - self._mean).mul_(self._scale)
        hidden = self._products["vision.patch"](normalized.flatten(2).to(self._dtype))
        if self.spec.has_class_token:
            first = weights["vision.class_embedding"].expand(hidden.shape[0], 1, -1)
            hidden = torch.cat((first, hidden), dim=1)
        hidden = hidden + weights["vision.position"]
        return self._norm(hidden, "vision.pre_norm") if self.spec.has_pre_norm else hidden

    def _layer(self, hidden: Tensor, name: str) -> Tensor:
        qkv = self._products[f"{name}.qkv"](self._norm(hidden, f"{name}.norm1"))
        attended = self._functions.attention(qkv.view(*hidden.shape[:2], 3, self.spec.num_heads, -1))
        hidden = hidden + self._products[f"{name}.output"](attended)
        inner = self._functions.activation(self._products[f"{name}.fc1"](self._norm(hidden, f"{name}.norm2")))
        return hidden + self._products[f"{name}.fc2"](inner)

    def _norm(self, x: Tensor, name: str, epsilon: float | None = None) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return self._functions.layer_norm(x, weight, bias, self.spec.norm_eps if epsilon is None else epsilon)


def _shuffle(features: Tensor, scale: int) -> Tensor:
    """Squares of scale * scale patches to one feature each, row by row: [N, P, E] to [N, P / scale^2, scale^2 * E]."""
    if scale == 1:
        return features
    num_segments, num_patches, width = features.shape
    side = math.isqrt(num_patches) // scale
    squares = features.view(num_segments, side, scale, side, scale * width).transpose(2, 3)
    return squares.reshape(num_segments, side * side, scale * scale * width)

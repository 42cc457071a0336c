"""The vision tower (CLIP, SigLIP) and LLaVA's projector.

Letters: N images, P positions (patches, and the class token where there is one), E the tower's hidden size.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm, linear, scaled_dot_product_attention

from aphrodite.backends.cuda.activations import activation
from aphrodite.domain.architectures.spec import PixelNormalization, VisionSpec

_MAX_BATCH = 32  # images encoded at once: enough to fill a GPU, and it bounds the activations' memory


class VisionTower:
    """uint8 pixels to features in the decoder's hidden size."""

    def __init__(self, spec: VisionSpec, weights: dict[str, Tensor], normalization: PixelNormalization) -> None:
        self.spec = spec
        self._weights = weights
        self._activation = activation(spec.activation)
        self._projector_activation = activation(spec.projector_activation)
        device = weights["vision.position"].device
        self._scale = normalization.scale
        self._mean = torch.tensor(normalization.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(normalization.std, device=device).view(3, 1, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Images uint8 [N, size, size, 3], on the device, to features [N, image tokens, decoder hidden size]."""
        return torch.cat([self._encode(batch) for batch in torch.split(pixels, _MAX_BATCH)])

    def _encode(self, pixels: Tensor) -> Tensor:
        weights, spec = self._weights, self.spec
        hidden = self._embed(pixels)
        states = {0: hidden}
        for index in range(spec.num_used_layers):
            hidden = self._layer(hidden, f"vision.layers.{index}")
            states[index + 1] = hidden
        features = torch.cat([states[index] for index in spec.feature_layers], dim=-1)
        if spec.drop_first_token:
            features = features[:, 1:]
        projected = linear(features, weights["projector.linear_1.weight"], weights.get("projector.linear_1.bias"))
        projected = self._projector_activation(projected)
        return linear(projected, weights["projector.linear_2.weight"], weights.get("projector.linear_2.bias"))

    def _embed(self, pixels: Tensor) -> Tensor:
        """uint8 [N, size, size, 3] to embeddings [N, P, E]; normalised here, so that only bytes travel."""
        weights = self._weights
        patch = weights["vision.patch.weight"]
        normalized = (pixels.permute(0, 3, 1, 2).float() * self._scale - self._mean) / self._std
        patches = conv2d(
            normalized.to(patch.dtype), patch, weights.get("vision.patch.bias"), stride=self.spec.patch_size
        )
        hidden = patches.flatten(2).transpose(1, 2)  # [N, patches, E]
        if self.spec.has_class_token:
            first = weights["vision.class_embedding"].expand(hidden.shape[0], 1, -1)
            hidden = torch.cat((first, hidden), dim=1)
        hidden = hidden + weights["vision.position"]
        return self._norm(hidden, "vision.pre_norm") if self.spec.has_pre_norm else hidden

    def _layer(self, hidden: Tensor, name: str) -> Tensor:
        images, positions, width = hidden.shape
        qkv = self._linear(self._norm(hidden, f"{name}.norm1"), f"{name}.qkv")
        queries, keys, values = qkv.view(images, positions, 3, self.spec.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(images, positions, width)
        hidden = hidden + self._linear(attended, f"{name}.output")
        inner = self._activation(self._linear(self._norm(hidden, f"{name}.norm2"), f"{name}.fc1"))
        return hidden + self._linear(inner, f"{name}.fc2")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self._weights[f"{name}.weight"]
        return layer_norm(x, weight.shape, weight, self._weights[f"{name}.bias"], self.spec.norm_eps)

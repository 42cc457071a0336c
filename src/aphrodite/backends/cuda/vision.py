"""The vision tower (CLIP, SigLIP, InternViT) and the projector behind it.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.backends.cuda.vision_functions import VisionFunctions
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import (
    QK_NORM_EPS,
    Activate,
    Merge,
    Normalize,
    NormKind,
    Project,
    ProjectorStep,
    VisionSpec,
)

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
            for name in [*names, *(f"projector.{step.name}" for step in spec.projector if isinstance(step, Project))]
        }
        # Patches do not overlap: the convolution over them is a product of their pixels [3 * size * size].
        patch = weights.pop("vision.patch.weight").flatten(1)
        self._products["vision.patch"] = linear(patch, weights.get("vision.patch.bias"))
        device, self._dtype = patch.device, patch.dtype
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
            states[spec.num_layers] = self._norm(hidden, "vision.post_norm", "layer", spec.norm_eps)
        features = torch.cat([states[index] for index in spec.feature_layers], dim=-1)
        if spec.drop_first_token:
            features = features[:, 1:]
        for step in spec.projector:
            features = self._project(features, step)
        return features

    def _project(self, x: Tensor, step: ProjectorStep) -> Tensor:
        match step:
            case Project():
                return self._products[f"projector.{step.name}"](x)
            case Normalize():
                return self._norm(x, f"projector.{step.name}", step.kind, step.epsilon)
            case Activate():
                return activation(step.activation)(x)
            case Merge():
                return _merge(x, step.side)

    def _embed(self, patches: Tensor) -> Tensor:
        """uint8 [N, patches, patch bytes] to embeddings [N, P, E]; normalised here, so that only bytes travel."""
        spec, weights = self.spec, self._weights
        channels = patches.view(*patches.shape[:2], 3, -1).float()  # [N, patches, 3, pixels]
        normalized = (channels - self._mean).mul_(self._scale)
        hidden = self._products["vision.patch"](normalized.flatten(2).to(self._dtype))
        if spec.has_class_token:
            first = weights["vision.class_embedding"].expand(hidden.shape[0], 1, -1)
            hidden = torch.cat((first, hidden), dim=1)
        hidden = hidden + weights["vision.position"]
        return self._norm(hidden, "vision.pre_norm", spec.norm, spec.norm_eps) if spec.has_pre_norm else hidden

    def _layer(self, hidden: Tensor, name: str) -> Tensor:
        spec = self.spec
        qkv = self._products[f"{name}.qkv"](self._norm(hidden, f"{name}.norm1", spec.norm, spec.norm_eps))
        if spec.qk_norm:
            qkv = self._normed_queries_and_keys(qkv, name)
        attended = self._functions.attention(qkv.view(*hidden.shape[:2], 3, spec.num_heads, -1))
        hidden = self._add(hidden, self._products[f"{name}.output"](attended), f"{name}.attention_scale")
        normed = self._norm(hidden, f"{name}.norm2", spec.norm, spec.norm_eps)
        inner = self._functions.activation(self._products[f"{name}.fc1"](normed))
        return self._add(hidden, self._products[f"{name}.fc2"](inner), f"{name}.mlp_scale")

    def _normed_queries_and_keys(self, qkv: Tensor, name: str) -> Tensor:
        queries, keys, values = qkv.chunk(3, dim=-1)
        normed = [
            functional.rms_norm(x, x.shape[-1:], self._weights[f"{name}.{part}_norm"], QK_NORM_EPS)
            for x, part in ((queries, "q"), (keys, "k"))
        ]
        return torch.cat((*normed, values), dim=-1)

    def _add(self, hidden: Tensor, update: Tensor, scale: str) -> Tensor:
        return torch.addcmul(hidden, update, self._weights[scale]) if self.spec.has_layer_scale else hidden + update

    def _norm(self, x: Tensor, name: str, kind: NormKind, epsilon: float) -> Tensor:
        weight = self._weights[f"{name}.weight"]
        if kind == "rms":
            return functional.rms_norm(x, weight.shape, weight, epsilon)
        return self._functions.layer_norm(x, weight, self._weights[f"{name}.bias"], epsilon)


def _merge(features: Tensor, side: int) -> Tensor:
    """Squares of side * side patches to one feature each, row by row: [N, P, E] to [N, P / side^2, side^2 * E]."""
    num_segments, num_patches, width = features.shape
    squares = math.isqrt(num_patches) // side  # in a row
    return (
        features.view(num_segments, squares, side, squares, side * width)
        .transpose(2, 3)
        .reshape(num_segments, squares**2, side**2 * width)
    )

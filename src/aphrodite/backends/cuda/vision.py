"""The vision tower and the projector behind it.

Letters: N segments of images, P positions (patches, and the class token where there is one), E the tower's hidden size.
A packed tower has segments of any length: there N is 1, and P are the patches of all of them.
"""

import math
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aphrodite.backends.cuda.activations import activation
from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.backends.cuda.vision_functions import VisionFunctions
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import (
    Activate,
    Average,
    Gate,
    Merge,
    Normalize,
    NormKind,
    Project,
    ProjectorStep,
    QkNorm,
    VisionSpec,
)

Runs = list[tuple[int, int]]
"""Segments of one length that follow each other: how many, and how many patches each has."""

_MAX_BATCH = 32  # segments encoded at once: enough to fill a GPU, and it bounds the activations' memory


class Places(NamedTuple):
    """Where the patches of a packed tower are."""

    turns: tuple[Tensor, Tensor] | None  # cosines and sines [P, 1, 1, D / 2]
    segments: Runs
    windows: Runs
    positions: Tensor | None  # [P, E], interpolated


class VisionTower:
    """Patches to features in the decoder's hidden size."""

    def __init__(self, spec: VisionSpec, weights: dict[str, Tensor], normalization: PixelNormalization) -> None:
        """Takes its matrices out of `weights`, so that none is kept beside its packed copy."""
        self.spec = spec
        self._weights = weights
        layers = [f"vision.layers.{index}" for index in range(spec.num_used_layers)]
        names = [f"{layer}.{part}" for layer in layers for part in ("qkv", "output", "fc1", "fc2")]
        names += [f"projector.{step.name}" for step in spec.projector_steps if isinstance(step, Project)]
        self._products: dict[str, Linear] = {
            name: linear(weights.pop(f"{name}.weight"), weights.get(f"{name}.bias")) for name in names
        }
        # Patches do not overlap: the convolution over them is a product of their pixels [3 * size * size].
        patch = weights.pop("vision.patch.weight").flatten(1)
        self._products["vision.patch"] = linear(patch, weights.get("vision.patch.bias"))
        device, self._dtype = patch.device, patch.dtype
        head_dim = spec.hidden_size // spec.num_heads
        self._functions = VisionFunctions.choose(spec.activation, head_dim, self._dtype, device)
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        if spec.rope is not None:
            self._frequencies = torch.from_numpy(spec.rope.inverse_frequencies(head_dim)).to(device)  # [2, D / 4]
        self._mean = (mean / normalization.scale).to(device)[:, None]  # [3, 1] of the bytes
        self._scale = (normalization.scale / std).to(device)[:, None]

    @property
    def learned(self) -> Tensor | None:
        """The learned vectors that may stand between features, [n, decoder hidden size]; None where there are none."""
        return self._weights["projector.newline"][None] if self.spec.has_newline else None

    def encode(self, patches: Tensor) -> Tensor:
        """Patches uint8 [N, patches, patch bytes], on the device, to rows [N, image tokens, feature size]."""
        return torch.cat([self._encode(batch) for batch in torch.split(patches, _MAX_BATCH)])

    def encode_packed(
        self,
        patches: Tensor,
        coordinates: Tensor,
        segments: np.ndarray,
        windows: np.ndarray,
        positions: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Patches uint8 [patches, patch bytes] of all segments to rows [rows, feature size].

        `coordinates` int32 [patches, 2], and how many patches each segment has, and each window; taps int32 and weights
        float32 [patches, K] of `positions` where they are interpolated.
        """
        summed = None if positions is None else self._interpolated(*positions)
        places = Places(self._turns(coordinates), runs(segments), runs(windows), summed)
        return self._encode(patches[None], places)[0]

    def _encode(self, patches: Tensor, places: Places | None = None) -> Tensor:
        spec = self.spec
        hidden = self._embed(patches, None if places is None else places.positions)
        states = {0: hidden}  # those that become features
        for index in range(spec.num_used_layers):
            hidden = self._layer(hidden, index, places)
            if index + 1 in spec.taken_layers:
                states[index + 1] = hidden
        if spec.has_post_norm:
            states[spec.num_layers] = self._norm(hidden, "vision.post_norm", "layer", spec.norm_eps)
        features = torch.cat([states[index] for index in spec.feature_layers], dim=-1)
        if spec.drop_first_token:
            features = features[:, 1:]
        projected = self._projected(features, spec.projector)
        deep = [self._projected(states[level.layer], level.projector) for level in spec.deep_levels]
        return torch.cat((projected, *deep), dim=-1) if deep else projected

    def _projected(self, features: Tensor, projector: tuple[ProjectorStep, ...]) -> Tensor:
        for step in projector:
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
            case Gate():
                gate, up = x.chunk(2, dim=-1)
                return activation(step.activation)(gate) * up
            case Merge():
                return x.view(1, -1, step.side**2 * x.shape[-1]) if self.spec.is_packed else _merge(x, step.side)
            case Average():
                return _merge(x, step.side).reshape(len(x), -1, step.side**2, x.shape[-1]).mean(dim=2)

    def _embed(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        """uint8 [N, patches, patch bytes] to embeddings [N, P, E]; normalised here, so that only bytes travel."""
        spec, weights = self.spec, self._weights
        channels = patches.view(*patches.shape[:2], 3, -1).float()  # [N, patches, 3, pixels]
        normalized = (channels - self._mean).mul_(self._scale)
        hidden = self._products["vision.patch"](normalized.flatten(2).to(self._dtype))
        if spec.has_class_token:
            first = weights["vision.class_embedding"].expand(hidden.shape[0], 1, -1)
            hidden = torch.cat((first, hidden), dim=1)
        if spec.has_patch_norm:
            hidden = self._norm(hidden, "vision.patch_norm", spec.norm, spec.norm_eps)
        if spec.has_position_table:
            hidden = hidden + (weights["vision.position"] if positions is None else positions)
        return self._norm(hidden, "vision.pre_norm", spec.norm, spec.norm_eps) if spec.has_pre_norm else hidden

    def _layer(self, hidden: Tensor, index: int, places: Places | None) -> Tensor:
        spec, name = self.spec, f"vision.layers.{index}"
        qkv = self._products[f"{name}.qkv"](self._norm(hidden, f"{name}.norm1", spec.norm, spec.norm_eps))
        if spec.qk_norm is not None:
            qkv = self._normed_queries_and_keys(qkv, name, spec.qk_norm)
        qkv = qkv.view(*hidden.shape[:2], 3, spec.num_heads, -1)
        if places is None:
            attended = self._functions.attention(qkv)
        else:
            attended = self._attend_within(
                places.windows if index in spec.windowed_layers else places.segments,
                qkv if places.turns is None else turned(qkv, *places.turns),
            )
        hidden = self._add(hidden, self._products[f"{name}.output"](attended), f"{name}.attention_scale")
        normed = self._norm(hidden, f"{name}.norm2", spec.norm, spec.norm_eps)
        inner = self._products[f"{name}.fc1"](normed)
        if spec.is_gated:
            gate, up = inner.chunk(2, dim=-1)
            inner = self._functions.activation(gate.contiguous()).mul_(up)
        else:
            inner = self._functions.activation(inner)
        return self._add(hidden, self._products[f"{name}.fc2"](inner), f"{name}.mlp_scale")

    def _attend_within(self, runs: Runs, qkv: Tensor) -> Tensor:
        """Attention within each segment, [1, P, 3, H, D] to [1, P, H * D]; those of a run go at once."""
        attended, first = [], 0
        for count, length in runs:
            run = qkv[0, first : first + count * length].view(count, length, *qkv.shape[2:])
            attended.append(self._functions.attention(run).flatten(0, 1))
            first += count * length
        return torch.cat(attended)[None]

    def _turns(self, coordinates: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of each patch's angles, [P, 1, 1, D / 2] over three and heads."""
        if self.spec.rope is None:
            return None
        angles = (coordinates[:, :, None] * self._frequencies).flatten(1)[:, None, None]
        return angles.cos(), angles.sin()

    def _interpolated(self, taps: Tensor, weights: Tensor) -> Tensor:
        """Sums of learned positions, [P, E]."""
        table = self._weights["vision.position"].float()
        return functional.embedding_bag(taps, table, mode="sum", per_sample_weights=weights).to(self._dtype)

    def _normed_queries_and_keys(self, qkv: Tensor, name: str, norm: QkNorm) -> Tensor:
        queries, keys, values = qkv.chunk(3, dim=-1)
        normed = [
            functional.rms_norm(
                x.reshape(*x.shape[:2], -1, norm.size),
                (norm.size,),
                self._weights[f"{name}.{part}_norm"],
                norm.epsilon,
            ).view(x.shape)
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


def runs(lengths: np.ndarray) -> Runs:
    """Of segments, or windows, in order."""
    return [(len(list(group)), length) for length, group in groupby(lengths.tolist())]


def turned(qkv: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries, keys and values [1, P, 3, H, D], queries and keys rotated."""
    first, second = qkv[:, :, :2].float().chunk(2, dim=-1)
    rotated = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return torch.cat((rotated.to(qkv.dtype), qkv[:, :, 2:]), dim=2)


def _merge(features: Tensor, side: int) -> Tensor:
    """Squares of side * side patches to one feature each, row by row: [N, P, E] to [N, P / side^2, side^2 * E]."""
    num_segments, num_patches, width = features.shape
    squares = math.isqrt(num_patches) // side  # in a row
    return (
        features.view(num_segments, squares, side, squares, side * width)
        .transpose(2, 3)
        .reshape(num_segments, squares**2, side**2 * width)
    )

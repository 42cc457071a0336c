"""Cosines and sines by which a step's queries and keys are turned to their positions (rotary, arXiv 2104.09864).

Letters: T tokens, L layers, D head size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aphrodite.domain.architectures.spec import DecoderSpec, RopeSpec


class Rotary(NamedTuple):
    """Of a step's tokens, in the model's number format."""

    cos: Tensor  # [T, D / 2]
    sin: Tensor
    query_scale: Tensor | None  # [T]; None: 1

    def scale_queries(self, queries: Tensor) -> None:
        """Multiply queries [T, H, D] in place with what their positions ask for."""
        if self.query_scale is not None:
            queries *= self.query_scale[:, None, None]


class RotaryTables:
    """Those of every position, kept on the device once for every kind of rotation in the model."""

    def __init__(self, spec: DecoderSpec, max_model_len: int, dtype: torch.dtype, device: torch.device) -> None:
        self._ropes = spec.ropes
        self._tables = {
            rope: _Table(rope, spec.head_dim, max_model_len, dtype, device) for rope in dict.fromkeys(spec.ropes)
        }

    def of_step(self, rope_positions: Tensor) -> tuple[Rotary, ...]:
        """[L], of tokens that stand at `rope_positions` int32 [3, T]."""
        rotary = {rope: table.look_up(rope_positions) for rope, table in self._tables.items()}
        return tuple(rotary[rope] for rope in self._ropes)


class _Table:
    def __init__(
        self, rope: RopeSpec, head_dim: int, max_model_len: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        frequencies = torch.from_numpy(rope.inverse_frequencies(head_dim)).to(device)
        positions = torch.arange(max_model_len, device=device, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        amplitudes = torch.from_numpy(rope.amplitudes(head_dim)).to(device)
        self._cos = (angles.cos() * amplitudes).to(dtype)  # [max_model_len, D / 2]
        self._sin = (angles.sin() * amplitudes).to(dtype)
        self._query_scale: Tensor | None = None  # [max_model_len]
        if rope.query_growth:
            periods = (positions / rope.original_max_position).floor()
            self._query_scale = (1 + rope.query_growth * periods.log1p()).to(dtype)
        self._axes = torch.from_numpy(rope.axes(head_dim)).to(device) if rope.sections else None

    def look_up(self, rope_positions: Tensor) -> Rotary:
        if self._axes is None:
            positions = rope_positions[0]
            scale = None if self._query_scale is None else self._query_scale[positions]
            return Rotary(self._cos[positions], self._sin[positions], scale)
        positions = rope_positions[self._axes].T.long()  # [T, D / 2]
        return Rotary(self._cos.gather(0, positions), self._sin.gather(0, positions), None)

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
        angles = torch.outer(torch.arange(max_model_len, device=device, dtype=torch.float32), frequencies)
        self._cos, self._sin = angles.cos().to(dtype), angles.sin().to(dtype)  # [max_model_len, D / 2]
        self._axes = torch.from_numpy(rope.axes(head_dim)).to(device) if rope.sections else None

    def look_up(self, rope_positions: Tensor) -> Rotary:
        if self._axes is None:
            return Rotary(self._cos[rope_positions[0]], self._sin[rope_positions[0]])
        positions = rope_positions[self._axes].T.long()  # [T, D / 2]
        return Rotary(self._cos.gather(0, positions), self._sin.gather(0, positions))

"""A weight: its shape, its axes, and the checkpoint tensors it is made of.

Merged weights (queries, keys and values; gate and up) are their sources stacked along the first axis.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

Axis = Literal["vocab", "heads", "mlp", "experts", "hidden"]
"""What an axis counts: token ids; rows of attention heads, by head; inner units of the MLP; rows of experts, by expert;
all that is never split."""

Reader = Callable[[np.ndarray], np.ndarray]
"""Makes of a checkpoint's tensor the one that we want."""


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor of the checkpoint, by its canonical name, and what is made of its numbers: scale * (x + offset)."""

    name: str
    shape: tuple[int, ...]
    offset: float = 0.0
    scale: float = 1.0
    read: Reader | None = None  # what is done to the tensor first
    held_shape: tuple[int, ...] | None = None  # of what `read` makes, where it is another
    parts: tuple[int, ...] = ()  # the rows of each, where the checkpoint has merged several
    is_maybe_transposed: bool = False  # some checkpoints have its last two axes the other way round

    @property
    def held(self) -> tuple[int, ...]:
        """The shape that the weight has of it."""
        return self.held_shape or self.shape

    def arrange(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor in this source's shape, as far as that is a matter of how it was stored."""
        while tensor.ndim > len(self.shape) and tensor.shape[0] == 1:  # InternVL's class token: [1, 1, E]
            tensor = tensor[0]
        if self.is_maybe_transposed and tensor.shape != self.shape:
            return tensor.swapaxes(-1, -2)
        return tensor

    def prepare(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor itself where nothing is to be done, else float32."""
        if self.read is not None:
            tensor = self.read(tensor)
        if self.offset == 0 and self.scale == 1:
            return tensor
        return (tensor.astype(np.float32) + np.float32(self.offset)) * np.float32(self.scale)

    def split(self, prepared: np.ndarray) -> list[np.ndarray]:
        """What `prepare` made, part by part."""
        return np.split(prepared, np.cumsum(self.parts)[:-1]) if self.parts else [prepared]


@dataclass(frozen=True, slots=True)
class Weight:
    """One array that a backend holds."""

    name: str
    sources: tuple[Source, ...]
    axes: tuple[Axis, ...] = ()  # of the decoder's weights, one a dimension; (): a vision tower's, which is never split
    num_experts: int = 0  # whose matrices are stacked; 0: it is one matrix
    is_precise: bool = False  # held in float32, whatever the model's number format is

    @property
    def shape(self) -> tuple[int, ...]:
        rows = sum(source.held[0] for source in self.sources)
        return (rows, *self.sources[0].held[1:])

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def linear(
    name: str,
    prefix: str,
    outputs: dict[str, int],
    num_inputs: int,
    bias: bool,
    axes: tuple[Axis, ...] = (),
    scale: float = 1.0,
    *,
    reads: Mapping[str, Reader | None] = MappingProxyType({}),
    parts: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> list[Weight]:
    """A matrix product whose output rows come from one or more checkpoint layers; `outputs` maps each to its rows.

    `reads` and `parts` are those of their sources, by layer.
    """

    def sources(kind: str, inputs: tuple[int, ...]) -> tuple[Source, ...]:
        return tuple(
            Source(f"{prefix}{key}.{kind}", (rows, *inputs), 0.0, scale, reads.get(key), parts=parts.get(key, ()))
            for key, rows in outputs.items()
        )

    weight = Weight(f"{name}.weight", sources("weight", (num_inputs,)), axes)
    return [weight, Weight(f"{name}.bias", sources("bias", ()), axes[:1])] if bias else [weight]


def vector(name: str, source: str, size: int) -> Weight:
    """One tensor of one dimension."""
    return Weight(name, (Source(source, (size,)),))

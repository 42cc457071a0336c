"""A weight: its shape, its axes, and the checkpoint tensors it is made of.

Merged weights (queries, keys and values; gate and up) are their sources stacked along the first axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Axis = Literal["vocab", "heads", "mlp", "hidden"]
"""What an axis counts: token ids; rows of attention heads, by head; inner units of the MLP; all that is never split."""


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor of the checkpoint, by its canonical name, and what is made of its numbers: scale * (x + offset)."""

    name: str
    shape: tuple[int, ...]
    offset: float = 0.0
    scale: float = 1.0
    read: Callable[[np.ndarray], np.ndarray] | None = None  # what is done to the tensor first
    held_shape: tuple[int, ...] | None = None  # of what `read` makes, where it is another

    @property
    def held(self) -> tuple[int, ...]:
        """The shape that the weight has of it."""
        return self.held_shape or self.shape

    def prepare(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor itself where nothing is to be done, else float32."""
        if self.read is not None:
            tensor = self.read(tensor)
        if self.offset == 0 and self.scale == 1:
            return tensor
        return (tensor.astype(np.float32) + np.float32(self.offset)) * np.float32(self.scale)


@dataclass(frozen=True, slots=True)
class Weight:
    """One array that a backend holds."""

    name: str
    sources: tuple[Source, ...]
    axes: tuple[Axis, ...] = ()  # of the decoder's weights, one a dimension; (): a vision tower's, which is never split

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
) -> list[Weight]:
    """A matrix product whose output rows come from one or more checkpoint layers; `outputs` maps each to its rows."""
    weight = Weight(
        f"{name}.weight",
        tuple(Source(f"{prefix}{key}.weight", (rows, num_inputs), scale=scale) for key, rows in outputs.items()),
        axes,
    )
    if not bias:
        return [weight]
    sources = tuple(Source(f"{prefix}{key}.bias", (rows,), scale=scale) for key, rows in outputs.items())
    return [weight, Weight(f"{name}.bias", sources, axes[:1])]


def vector(name: str, source: str, size: int) -> Weight:
    """One tensor of one dimension."""
    return Weight(name, (Source(source, (size,)),))

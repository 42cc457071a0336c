"""A real configuration with random weights: for measuring a model's speed without its weights."""

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.architectures.weights import declare_weights
from aphrodite.domain.ports import CheckpointSource

_POOL_SIZE = 4_194_301  # a prime, so that rows of repeated numbers do not line up and matrices keep their rank
_SPREAD = 0.02  # standard deviation, what most families initialise with


class DummyCheckpoint:
    """The weights that `spec` declares, random and the same for the same seed; implements the CheckpointSource port.

    Matrices and biases are normal around 0, norm weights are 1. Numbers come from one pool of a few million, each
    tensor starting at a place of its own, so that making a tensor costs no more than copying it.
    """

    def __init__(self, source: CheckpointSource, spec: ModelSpec, seed: int = 0) -> None:
        self.config: Mapping[str, Any] = source.config
        self.generation_config: Mapping[str, Any] = source.generation_config
        self._spec = spec
        self._seed = seed

    def names(self) -> list[str]:
        """The names that `declare_weights` gives."""
        return [source.name for weight in declare_weights(self._spec) for source in weight.sources]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor once, in the configuration's dtype, under the name that `declare_weights` gives its source."""
        dtype = _dtype(self.config)
        numbers = np.random.default_rng(self._seed % 2**64).standard_normal(_POOL_SIZE, np.float32)
        pool = (numbers * np.float32(_SPREAD)).astype(dtype)
        for weight in declare_weights(self._spec):
            for source in weight.sources:
                if _is_norm_weight(source.name):
                    yield source.name, np.full(source.shape, 1 - source.offset, dtype)
                else:
                    size = math.prod(source.shape)
                    start = zlib.crc32(source.name.encode()) % _POOL_SIZE
                    yield source.name, _take(pool, start, size).reshape(source.shape)


def _take(pool: np.ndarray, start: int, size: int) -> np.ndarray:
    """`size` numbers of the endlessly repeated pool, from `start`."""
    taken = np.empty(size, pool.dtype)
    filled = 0
    while filled < size:
        piece = pool[start : start + size - filled]
        taken[filled : filled + piece.size] = piece
        filled += piece.size
        start = 0
    return taken


def _is_norm_weight(name: str) -> bool:
    """True for "...input_layernorm.weight", "...layer_norm1.weight", "...pre_layrnorm.weight", "...norm.weight"."""
    parent, _, leaf = name.rpartition(".")
    return leaf == "weight" and "norm" in parent.rpartition(".")[2]


def _dtype(config: Mapping[str, Any]) -> np.dtype[Any]:
    name = str(config.get("dtype") or (config.get("text_config") or {}).get("dtype"))
    known: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
    return known.get(name, np.dtype(np.float32))

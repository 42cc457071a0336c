"""Whether the output head is the embeddings' own matrix: the checkpoint decides, whatever its configuration says."""

from dataclasses import replace

import numpy as np

from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.ports import CheckpointSource

EMBEDDING, HEAD = "decoder.embed_tokens.weight", "lm_head.weight"
"""Canonical names of the two."""

_ROWS_AT_ONCE = 1024  # bounds what comparing takes beside the matrices


def untie_by_checkpoint(model: ModelSpec, checkpoint: CheckpointSource) -> ModelSpec:
    """`model`, with a head of its own where it is tied by its configuration and the checkpoint holds another matrix.

    Raises CheckpointError.
    """
    if not model.decoder.tied_embeddings or not {EMBEDDING, HEAD} <= {
        canonical_name(raw) for raw in checkpoint.names()
    }:
        return model
    found: dict[str, np.ndarray] = {}
    for raw_name, tensor in checkpoint.tensors():
        if (name := canonical_name(raw_name)) in (EMBEDDING, HEAD):
            found[name] = tensor
        if len(found) == 2:
            break
    if _equal(found[EMBEDDING], found[HEAD]):
        return model
    return replace(model, decoder=replace(model.decoder, tied_embeddings=False))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and all(
        np.array_equal(one[start : start + _ROWS_AT_ONCE], other[start : start + _ROWS_AT_ONCE])
        for start in range(0, len(one), _ROWS_AT_ONCE)
    )

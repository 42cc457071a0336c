"""What every CheckpointSource promises."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from aphrodite.domain.ports import CheckpointSource


def test_every_tensor_comes_once_and_as_it_was_saved(checkpoint: CheckpointSource, folder: Path) -> None:
    tensors = list(checkpoint.tensors())
    saved = load_file(folder / "model.safetensors")
    assert sorted(name for name, _ in tensors) == sorted(saved)
    assert list(checkpoint.names()) == [name for name, _ in tensors]
    assert all(np.array_equal(tensor, saved[name]) for name, tensor in tensors)


def test_it_can_be_read_again(checkpoint: CheckpointSource) -> None:
    assert [name for name, _ in checkpoint.tensors()] == [name for name, _ in checkpoint.tensors()]

"""A model folder in Hugging Face's format: config.json and safetensors, in one file or in indexed shards."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aphrodite.adapters.outbound.huggingface.configuration import read_config, read_generation_config
from aphrodite.adapters.outbound.huggingface.json_file import read_json
from aphrodite.domain.errors import CheckpointError, UnsupportedModelError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# The format's codes for what numpy (with ml_dtypes) holds and a model may use. Integers are old buffers that some
# checkpoints carry along; floats of 8 bits and packed integers are quantised weights, whose scales we do not apply.
_READABLE = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "BOOL"})


class SafetensorsCheckpoint:
    """Configuration and weights of a folder; implements the CheckpointSource port.

    Weights are views of the mapped file, so that memory is taken by whoever copies them and by nobody else; they hold
    the file open and must not be written to.

    Raises ModelNotFoundError, UnsupportedModelError or CheckpointError, from the constructor for the configuration
    and from `names` and `tensors` for the weights.
    """

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        self._folder = folder
        self.config: Mapping[str, Any] = read_config(folder, trust_remote_code=trust_remote_code)
        self.generation_config: Mapping[str, Any] = read_generation_config(folder)

    def names(self) -> Iterator[str]:
        """Every tensor's name, in the order in which the files hold them."""
        for _, names in self._files():
            yield from names

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor once, in the order in which the files hold them."""
        for path, names in self._files():
            with _open(path) as file:
                for name in names:
                    yield name, _read(file, name, path)

    def _files(self) -> Iterator[tuple[Path, list[str]]]:
        """The files, each with the names of the tensors to be read from it."""
        single, index = self._folder / _SINGLE, self._folder / _INDEX
        if single.is_file():  # what an index beside it says is of other files, for transformers, too
            yield single, _names(single)
        elif index.is_file():
            yield from self._shards(index)
        elif any(self._folder.glob("pytorch_model*.bin")):
            raise CheckpointError(
                f"The weights in {self._folder} are a pickled pytorch_model.bin, which Aphrodite does not open; "
                "convert them to safetensors."
            )
        else:
            raise CheckpointError(f"The folder {self._folder} holds no weights: it has no {_SINGLE} and no {_INDEX}.")

    def _shards(self, index: Path) -> Iterator[tuple[Path, list[str]]]:
        """The files that an index names; what one of them holds and the index places in another is not read from it."""
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"The index {index} has no weight_map.")
        places = {str(name): self._folder / str(file) for name, file in weight_map.items()}
        paths = sorted(set(places.values()))
        for path in paths:
            if not path.is_file():
                raise CheckpointError(f"The shard {path} is missing; download the model again.")
        for path in paths:
            names = [name for name in _names(path) if places.get(name, path) == path]
            missing = {name for name, place in places.items() if place == path} - set(names)
            if missing:
                raise CheckpointError(f"{path} lacks the tensor {min(missing)}, which the index {_INDEX} places there.")
            yield path, names


def _open(path: Path) -> Any:
    import ml_dtypes  # noqa: F401 - registers bfloat16 with numpy, which safetensors asks for by name
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file; download it again.") from error


def _names(path: Path) -> list[str]:
    with _open(path) as file:
        return list(file.offset_keys())


def _read(file: Any, name: str, path: Path) -> np.ndarray:
    from safetensors import SafetensorError

    try:
        code = file.get_slice(name).get_dtype()
        tensor: np.ndarray | None = file.get_tensor(name) if code in _READABLE else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"The tensor {name} in {path} cannot be read.") from error
    if tensor is None:
        raise UnsupportedModelError(
            f"The tensor {name} in {path} is quantised ({code}); Aphrodite reads float32, float16 and "
            "bfloat16 weights, and .gguf files."
        )
    return tensor

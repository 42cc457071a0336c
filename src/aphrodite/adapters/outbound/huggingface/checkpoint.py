"""A model folder in Hugging Face's format: config.json and safetensors, in one file or in indexed shards."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aphrodite.adapters.outbound.huggingface.configuration import read_config, read_generation_config, read_json
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
    and from `tensors` for the weights.
    """

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        self._folder = folder
        self.config: Mapping[str, Any] = read_config(folder, trust_remote_code=trust_remote_code)
        self.generation_config: Mapping[str, Any] = read_generation_config(folder)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor once, in the order in which the files hold them."""
        for path, listed in self._shards().items():
            missing = listed
            for name, tensor in _read(path):
                missing = missing - {name}
                yield name, tensor
            if missing:
                raise CheckpointError(f"{path} lacks the tensor {min(missing)}, which the index {_INDEX} places there.")

    def _shards(self) -> dict[Path, frozenset[str]]:
        """The files, each with the tensors that the index says are in it."""
        if (self._folder / _INDEX).is_file():
            return self._indexed_shards(self._folder / _INDEX)
        if (self._folder / _SINGLE).is_file():
            return {self._folder / _SINGLE: frozenset()}
        if any(self._folder.glob("pytorch_model*.bin")):
            raise CheckpointError(
                f"The weights in {self._folder} are a pickled pytorch_model.bin, which Aphrodite does not open; "
                "convert them to safetensors."
            )
        raise CheckpointError(f"The folder {self._folder} holds no weights: it has no {_SINGLE} and no {_INDEX}.")

    def _indexed_shards(self, index: Path) -> dict[Path, frozenset[str]]:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"The index {index} has no weight_map.")
        shards: dict[str, set[str]] = {}
        for name, file in weight_map.items():
            shards.setdefault(str(file), set()).add(name)
        for file in sorted(shards):
            if not (self._folder / file).is_file():
                raise CheckpointError(f"The shard {self._folder / file} is missing; download the model again.")
        return {self._folder / file: frozenset(shards[file]) for file in sorted(shards)}


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    import ml_dtypes  # noqa: F401 - registers bfloat16 with numpy, which safetensors asks for by name
    from safetensors import SafetensorError, safe_open

    # The errors are caught around each call and not around the loop: what a consumer raises is not ours to translate.
    try:
        file: Any = safe_open(path, framework="np")
        names = file.offset_keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file; download it again.") from error
    with file:
        for name in names:
            try:
                code = file.get_slice(name).get_dtype()
                tensor = file.get_tensor(name) if code in _READABLE else None
            except (SafetensorError, OSError, ValueError, TypeError) as error:
                raise CheckpointError(f"The tensor {name} in {path} cannot be read.") from error
            if tensor is None:
                raise UnsupportedModelError(
                    f"The tensor {name} in {path} is quantised ({code}); Aphrodite reads float32, float16 and "
                    "bfloat16 weights, and .gguf files."
                )
            yield name, tensor

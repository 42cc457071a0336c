"""Safetensors folders against what transformers and torch saved into them, and folders that are damaged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.builders import tiny_llava, tiny_text
from transformers import AutoConfig, AutoModelForCausalLM

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text(tmp_path_factory.mktemp("text"))


def copy(folder: Path, target: Path, *names: str) -> Path:
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def as_float(tensor: np.ndarray) -> np.ndarray:
    return tensor.astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_weights_as_transformers_saved_them(text_model: Path, tmp_path: Path, dtype: str, shard_size: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(text_model, dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "20KB")
    checkpoint = SafetensorsCheckpoint(tmp_path)
    tensors = list(checkpoint.tensors())
    expected = model.state_dict()
    assert sorted(name for name, _ in tensors) == sorted(expected)
    for name, tensor in tensors:
        assert tensor.dtype == np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        assert np.array_equal(as_float(tensor), expected[name].float().numpy())
    assert checkpoint.config["dtype"] == dtype


def test_configuration_is_complete(tmp_path: Path) -> None:
    tiny_llava(tmp_path)
    checkpoint = SafetensorsCheckpoint(tmp_path)
    assert checkpoint.config == AutoConfig.from_pretrained(tmp_path).to_dict()
    assert checkpoint.config["text_config"]["rope_parameters"]["rope_theta"] == 10000.0
    assert checkpoint.config["vision_config"]["hidden_act"] == "quick_gelu"
    assert checkpoint.generation_config["eos_token_id"] == 2


def test_configuration_that_leaves_everything_to_the_family(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
    checkpoint = SafetensorsCheckpoint(tmp_path)
    assert checkpoint.config["head_dim"] == AutoConfig.for_model("qwen3").head_dim
    assert checkpoint.generation_config == {}


def test_old_buffers_of_integers_pass(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json")
    save_file({"vision_model.embeddings.position_ids": torch.arange(4)}, tmp_path / "model.safetensors")
    ((_, tensor),) = SafetensorsCheckpoint(tmp_path).tensors()
    assert tensor.tolist() == [0, 1, 2, 3]


_MEASURE = """
import sys
from pathlib import Path
import ml_dtypes, numpy, transformers
from safetensors import safe_open
from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint

def anonymous_bytes():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

checkpoint = SafetensorsCheckpoint(Path(sys.argv[1]))
before = peak = anonymous_bytes()
kept = []
for name, tensor in checkpoint.tensors():
    kept.append(tensor.copy())
    peak = max(peak, anonymous_bytes())
print(sum(tensor.nbytes for tensor in kept), peak - before)
"""


def test_memory_stays_near_the_size_of_the_weights(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json")
    weight_map = {}
    for shard in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        tensors = {f"{shard}.{i}": torch.ones(2048, 1024, dtype=torch.bfloat16) for i in range(8)}
        save_file(tensors, tmp_path / shard)
        weight_map |= dict.fromkeys(tensors, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    process = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    size, growth = map(int, process.stdout.split())
    assert size == 2 * 8 * 2048 * 1024 * 2
    assert growth < 1.2 * size


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        SafetensorsCheckpoint(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"model_type": "llama", "hidden_size": "wide"}', "\xff"])
def test_damaged_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        SafetensorsCheckpoint(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_family_is_left_to_the_registry(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch", "architectures": ["Nonesuch"]}')
    with pytest.raises(UnsupportedModelError, match="nonesuch"):
        read_model(SafetensorsCheckpoint(tmp_path).config)


def test_code_of_its_own(tmp_path: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="trust_remote_code=True"):
        SafetensorsCheckpoint(tmp_path)


def test_quantised_by_its_configuration(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json")
    edit(tmp_path / "config.json", quantization_config={"quant_method": "fp8"})
    with pytest.raises(UnsupportedModelError, match="fp8"):
        read_model(SafetensorsCheckpoint(tmp_path).config)


@pytest.mark.parametrize(("dtype", "code"), [(torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8")])
def test_quantised_tensors(text_model: Path, tmp_path: Path, dtype: torch.dtype, code: str) -> None:
    copy(text_model, tmp_path, "config.json")
    save_file({"a.weight": torch.zeros(2, 2).to(dtype)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=rf"a\.weight .* is quantised \({code}\)"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def test_truncated_file(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json", "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    for size in (0, 4, 100, len(data) - 1):
        (tmp_path / "model.safetensors").write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete safetensors file") as caught:
            list(SafetensorsCheckpoint(tmp_path).tensors())
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("data", [b"\xff" * 100, b"\x08" + b"\0" * 7 + b"not json" * 9])
def test_garbage_in_the_header(text_model: Path, tmp_path: Path, data: bytes) -> None:
    copy(text_model, tmp_path, "config.json")
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def sharded(text_model: Path, folder: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(text_model).save_pretrained(folder, max_shard_size="40KB")
    return folder


def test_a_single_file_goes_before_an_index(text_model: Path, tmp_path: Path) -> None:
    """One that is stale lies beside it, as after a merge of shards; its files are gone."""
    folder = sharded(text_model, tmp_path)
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    assert (folder / "model.safetensors.index.json").exists()
    copy(text_model, folder, "model.safetensors")
    assert_as_transformers_loads(folder)


def test_a_tensor_that_the_index_places_elsewhere_is_skipped(text_model: Path, tmp_path: Path) -> None:
    folder = sharded(text_model, tmp_path)
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    first, last = min(weight_map.values()), max(weight_map.values())
    (name, *_) = (name for name, file in weight_map.items() if file == last)
    tensors = load_file(folder / first)
    save_file(tensors | {name: load_file(folder / last)[name] + 1}, folder / first, metadata={"format": "pt"})
    assert_as_transformers_loads(folder, text_model)


def assert_as_transformers_loads(folder: Path, saved_in: Path | None = None) -> None:
    expected = AutoModelForCausalLM.from_pretrained(saved_in or folder).state_dict()
    tensors = list(SafetensorsCheckpoint(folder).tensors())
    assert sorted(name for name, _ in tensors) == sorted(expected)
    assert all(np.array_equal(tensor, expected[name].numpy()) for name, tensor in tensors)


def test_missing_shard(text_model: Path, tmp_path: Path) -> None:
    shard = sorted(sharded(text_model, tmp_path).glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} is missing"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def test_tensor_that_only_the_index_has(text_model: Path, tmp_path: Path) -> None:
    index = sharded(text_model, tmp_path) / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    shard = max(weight_map.values())
    edit(index, weight_map=weight_map | {"model.extra.weight": shard})
    with pytest.raises(CheckpointError, match=rf"{shard} lacks the tensor model\.extra\.weight"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": 1}'])
def test_damaged_index(text_model: Path, tmp_path: Path, content: str) -> None:
    (sharded(text_model, tmp_path) / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def test_pickled_weights(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json")
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="convert them to safetensors"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def test_no_weights(text_model: Path, tmp_path: Path) -> None:
    copy(text_model, tmp_path, "config.json")
    with pytest.raises(CheckpointError, match="holds no weights"):
        list(SafetensorsCheckpoint(tmp_path).tensors())


def test_errors_of_the_consumer_pass_through(text_model: Path) -> None:
    tensors = SafetensorsCheckpoint(text_model).tensors()
    next(tensors)
    with pytest.raises(ValueError, match="mine"):
        tensors.throw(ValueError("mine"))  # type: ignore[attr-defined]

"""Models, options and hardware that cannot be had: a typed error when the engine is built."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aphrodite
from aphrodite import LLM, SamplingParams
from aphrodite.domain.errors import (
    BackendError,
    BackendNotFoundError,
    CapacityError,
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    UnsupportedModelError,
)


@pytest.fixture
def copy(llava_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llava_folder, tmp_path / "copy"))


def build(model: Path | str, **options: Any) -> LLM:
    return LLM(str(model), **({"device": "cpu", "kv_cache_memory": 1 << 20} | options))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": ""}, "^model must be the name of a model"),
        ({"model": 7}, "^model must be the name of a model, got 7"),
        ({"dtype": "int8"}, "^dtype must be one of auto, float32, bfloat16, float16, got 'int8'"),
        ({"load_format": "pt"}, "^load_format must be one of auto, dummy"),
        ({"max_model_len": 0}, "^max_model_len must be a positive integer, got 0"),
        ({"max_num_seqs": -1}, "^max_num_seqs must be a positive integer"),
        ({"max_num_batched_tokens": 2.5}, "^max_num_batched_tokens must be a positive integer, got 2.5"),
        ({"block_size": "16"}, "^block_size must be a positive integer, got '16'"),
        ({"gpu_memory_utilization": 0}, "^gpu_memory_utilization must be above 0 and at most 1"),
        ({"gpu_memory_utilization": 1.5}, "^gpu_memory_utilization must be above 0 and at most 1"),
        ({"kv_cache_memory": 0}, "^kv_cache_memory must be a positive integer"),
        ({"seed": "x"}, "^seed must be an integer"),
    ],
)
def test_options(options: dict[str, Any], sentence: str, llava_folder: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LLM(**({"model": str(llava_folder)} | options))


def test_a_chat_template_that_is_no_jinja(llava_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^The chat template is not valid Jinja \(line 1\)"):
        build(llava_folder, chat_template="{% for %}")


@pytest.mark.parametrize("name", ["opencl", "", "CUDA"])
def test_unknown_backend(name: str, llava_folder: Path) -> None:
    with pytest.raises(BackendNotFoundError, match=f"^No backend {name!r} is installed; there are: auto, .*cuda"):
        build(llava_folder, backend=name)


def test_source_that_is_not_installed(llava_folder: Path, tmp_path: Path) -> None:
    """The libraries, and this package's source, but none of its metadata."""
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("aphrodite", "__editable__")):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "aphrodite").symlink_to(Path(aphrodite.__file__).parent)
    program = f"from aphrodite import LLM; LLM({str(llava_folder)!r}, backend='cuda')"
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "BackendNotFoundError: The backend cuda cannot be found because Aphrodite is not installed" in result.stderr


def test_unknown_backend_in_the_environment(llava_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APHRODITE_BACKEND", "opencl")
    with pytest.raises(BackendNotFoundError, match=r"^No backend 'opencl' is installed"):
        LLM(str(llava_folder))


@pytest.mark.parametrize(("name", "sentence"), [("gpu", "Unknown device 'gpu'"), ("meta", "not on 'meta'")])
def test_unknown_device(name: str, sentence: str, llava_folder: Path) -> None:
    with pytest.raises(BackendError, match=sentence):
        build(llava_folder, backend="cuda", device=name)


def test_not_enough_memory_for_one_block(llava_folder: Path) -> None:
    one_block = 2 * 3 * 2 * 16 * 16 * 4  # keys and values, layers, heads, head size, tokens, bytes
    with pytest.raises(CapacityError, match=f"at least {2 * one_block:,} bytes .* {one_block:,} are available; raise"):
        build(llava_folder, kv_cache_memory=one_block)
    with build(llava_folder, kv_cache_memory=2 * one_block) as llm:  # the context is then one block long
        (output,) = llm.generate("Hi", SamplingParams(temperature=0, max_tokens=None), use_tqdm=False)
    assert len(output.prompt_token_ids) + len(output.outputs[0].token_ids) == 16


def test_context_longer_than_the_memory(llava_folder: Path) -> None:
    with pytest.raises(CapacityError, match="max_model_len is 512 tokens, the KV cache holds 16; lower max_model_len"):
        build(llava_folder, kv_cache_memory=2 * 2 * 3 * 2 * 16 * 16 * 4, max_model_len=512)


def test_context_longer_than_the_models_positions(llava_folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_model_len is 513 tokens, this model was made for 512 at most"):
        build(llava_folder, max_model_len=513)


def test_folder_without_config(copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"holds no model: it has no config\.json"):
        build(copy)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "no-such-model.gguf"])
def test_unknown_path(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"^No model at {name}: there is no such folder"):
        build(name)


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing"])
def test_unknown_repository(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=f"{name} is not on this machine, and HF_HUB_OFFLINE keeps from"):
        build(name)


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.3, 0.999])
def test_truncated_safetensors(share: float, copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file; download it again"):
        build(copy)


def test_missing_shard(copy: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00001-of-00001\.safetensors is missing"):
        build(copy)


def test_tensors_that_do_not_fit(copy: Path) -> None:
    path = copy / "model.safetensors"
    tensors = load_file(path)
    name = next(key for key in tensors if key.endswith("layers.1.mlp.up_proj.weight"))
    for changed, sentence in (
        ({key: tensor for key, tensor in tensors.items() if key != name}, "lacks tensors .*layers.1.mlp.up_proj"),
        (tensors | {"surplus.weight": np.zeros(3, np.float32)}, "has no place for: surplus.weight"),
        (tensors | {name: np.zeros((2, 2), np.float32)}, rf"{name} has the shape \[2, 2\]"),
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=sentence):
            build(copy)


def test_unsupported_model(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    for changes, sentence in (
        ({"model_type": "gpt2"}, "model_type = 'gpt2'; supported is one of .*llava, .*smolvlm, .*llama, .*qwen3"),
        ({"model_type": "unheard_of"}, "model_type = 'unheard_of'"),
        ({"text_config": config["text_config"] | {"model_type": "gpt2"}}, "text_config.model_type = 'gpt2'"),
    ):
        (copy / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UnsupportedModelError, match=sentence):
            build(copy)


def test_damaged_config(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "llava", ')
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        build(copy)


def test_no_tokenizer(copy: Path) -> None:
    for path in copy.glob("token*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"No tokenizer can be read from .*; it needs a tokenizer\.json"):
        build(copy)

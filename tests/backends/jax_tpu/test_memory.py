"""Asked for more memory than any machine has: one clear sentence, before anything is served."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aphrodite import LLM
from aphrodite.backends.jax_tpu.backend import JaxTpuBackend
from aphrodite.domain.errors import CapacityError

SMALL: dict[str, Any] = {
    "backend": "jax_tpu", "device": "cpu", "max_num_seqs": 1, "max_num_batched_tokens": 4, "kv_cache_memory": 1 << 20
}  # fmt: skip


def test_weights(llava_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llava_folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 1 << 40
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CapacityError, match=r"weights in float32 need [\d,]{7,}\.\d GiB .* has [\d,.]+ GiB left"):
        LLM(str(copy), **SMALL, load_format="dummy")


def test_kv_cache(llava_folder: Path) -> None:
    options = SMALL | {"kv_cache_memory": 1 << 50, "max_num_seqs": 1 << 40}
    with pytest.raises(CapacityError, match=r"KV blocks .* need [\d,]{7,}\.\d GiB .* has [\d,.]+ GiB left"):
        LLM(str(llava_folder), **options)


def test_steps(llava_folder: Path) -> None:
    """Compiling the largest step shows what it takes; smaller ones are left out here, as they only cost time."""
    with LLM(str(llava_folder), **SMALL) as llm:
        backend = llm._engine._backend
        assert isinstance(backend, JaxTpuBackend)
        buckets = replace(backend._model.buckets, tokens=(1 << 30,))
        backend._model = replace(backend._model, buckets=buckets)
        with pytest.raises(CapacityError, match=r"Steps of .* need [\d,]{3,}\.\d GiB .* has [\d,.]+ GiB left"):
            backend.warm_up()

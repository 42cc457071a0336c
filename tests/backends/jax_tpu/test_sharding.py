"""Tensor parallelism over forced host devices: the same tokens as on one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.builders import Family, tiny_llava, tiny_text

SCRIPT = """
import json, sys
import numpy as np
from aphrodite import LLM, SamplingParams

question = "USER: <image>\\nWhat is this?\\nASSISTANT:"
pictures = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), dtype=np.uint8)
prompts = [{"prompt": question, "multi_modal_data": {"image": picture}} for picture in pictures]
prompts.append("The quick brown fox jumps over the lazy dog")
params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, logprobs=1)
options = dict(device="cpu", max_num_seqs=6, max_num_batched_tokens=64, kv_cache_memory=1 << 20)
found = []
for size in (1, 2, 4):
    with LLM(sys.argv[1], backend="jax_tpu", tensor_parallel_size=size, **options) as llm:
        backend = llm._engine._backend
        arrays = [backend._decoder_weights[f"layers.0.{name}.weight"] for name in ("qkv", "gate_up", "output", "down")]
        arrays.append(backend._cache[0])
        parts = [array.addressable_shards[0].data.size / array.size for array in arrays]
        pixels = backend._model.encode_program(backend._model.buckets.units[-1]).arguments[1].patches
        parts.append(pixels.sharding.shard_shape(pixels.shape)[0] / pixels.shape[0])
        outputs = llm.generate(prompts, params, use_tqdm=False)
        found.append({
            "parts": parts,
            "token_ids": [output.outputs[0].token_ids for output in outputs],
            "logprobs": [output.outputs[0].cumulative_logprob for output in outputs],
        })
print(json.dumps(found))
"""


EXPERTS = """
import json, sys
from aphrodite import LLM, SamplingParams

prompts = ["The quick brown fox", "jumps over the lazy dog", "0123456789"]
params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, logprobs=1)
options = dict(device="cpu", max_num_seqs=4, max_num_batched_tokens=32, kv_cache_memory=1 << 20)
found = []
for size in (1, 2):
    with LLM(sys.argv[1], backend="jax_tpu", tensor_parallel_size=size, **options) as llm:
        weights = llm._engine._backend._decoder_weights
        arrays = [weights[f"layers.2.{name}"] for name in ("experts_gate_up", "experts_down", "router")]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        found.append({
            "parts": [array.addressable_shards[0].data.size / array.size for array in arrays],
            "token_ids": [output.outputs[0].token_ids for output in outputs],
            "logprobs": [output.outputs[0].cumulative_logprob for output in outputs],
        })
print(json.dumps(found))
"""


@pytest.mark.parametrize("family", [pytest.param("mixtral", marks=pytest.mark.slow), "glm4_moe"])
def test_experts_are_shared_out_whole(family: Family, tmp_path: Path) -> None:
    """A shared one by its inner units, as an MLP."""
    one, two = run(EXPERTS, tiny_text(tmp_path / "model", family), tmp_path)
    assert two["parts"] == [1 / 2, 1 / 2, 1]
    assert two["token_ids"] == one["token_ids"]
    for ours, theirs in zip(two["logprobs"], one["logprobs"], strict=True):
        assert abs(ours - theirs) < 1e-3


def test_tokens_equal_those_of_one_device(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "model", text_overrides={"num_attention_heads": 8, "num_key_value_heads": 4})
    one, two, four = run(SCRIPT, folder, tmp_path)
    assert two["token_ids"] == four["token_ids"] == one["token_ids"]
    for several, share in ((two, 1 / 2), (four, 1 / 4)):
        assert several["parts"] == [share] * 6
        for ours, theirs in zip(several["logprobs"], one["logprobs"], strict=True):
            assert abs(ours - theirs) < 1e-3


def run(script: str, folder: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """What a script prints that has four devices and the model of a folder."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found

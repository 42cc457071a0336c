"""GGUF files against transformers' own reader, and against models written as llama.cpp's converter writes them."""

import pickle
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tests.builders import smollm2_gguf, tiny_text
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from aphrodite.adapters.outbound.huggingface.gguf_checkpoint import GgufCheckpoint
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.weights import assemble
from aphrodite.domain.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.more": "more",  # of no model that we run
}


def test_smollm2_is_what_transformers_makes_of_it() -> None:
    path = smollm2_gguf()
    checkpoint = GgufCheckpoint(path)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**checkpoint.config))
    reference = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    assert read_model(checkpoint.config) == read_model(LlamaConfig(**reference["config"]).to_dict())
    for key in ("model_type", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert checkpoint.config[key] == reference["config"][key]
    expected = reference["tensors"]
    tensors = dict(checkpoint.tensors())
    assert sorted(tensors) == sorted(expected)
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32
        assert np.array_equal(tensor, expected[name].numpy()), name


def write(path: Path, model: Any, arch: str, extra: dict[str, Any] | None = None, kind: str = "F32") -> Path:
    """Save `model` as llama.cpp's convert_hf_to_gguf.py does; `extra` are further metadata."""
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(config.head_dim)
    writer.add_eos_token_id(config.eos_token_id)
    for key, value in (extra or {}).items():
        kinds = {bool: "bool", int: "uint32", str: "string", list: "array", float: "float32"}
        getattr(writer, f"add_{kinds[type(value)]}")(key, value)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if arch == "llama" and ".q_proj." in name:
            values = interleave(values, config.num_attention_heads)
        if arch == "llama" and ".k_proj." in name:
            values = interleave(values, config.num_key_value_heads)
        stored = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleave(weights: np.ndarray, num_heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's converter."""
    shape = (num_heads, 2, weights.shape[0] // num_heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape))


def gguf_name(name: str) -> str:
    stem, leaf = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{leaf}"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{leaf}"


def tiny(folder: Path, family: Any, **overrides: Any) -> Any:
    # An epsilon that the file's float32 holds exactly.
    return AutoModelForCausalLM.from_pretrained(tiny_text(folder, family, rms_norm_eps=2.0**-20, **overrides))


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True}),
        ("qwen2", {}),
        ("qwen3", {}),
    ],
)
def test_families_come_back_as_they_were(tmp_path: Path, family: str, overrides: dict[str, Any]) -> None:
    model = tiny(tmp_path, family, **overrides)
    if "attention_bias" in overrides:  # llama.cpp's llama has no bias on the output projection
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias = None
    expected = model.state_dict()
    if model.config.tie_word_embeddings:
        del expected["lm_head.weight"]
        model.state_dict = lambda: expected
    checkpoint = GgufCheckpoint(write(tmp_path / "tiny.gguf", model, family))
    tensors = dict(checkpoint.tensors())
    assert sorted(tensors) == sorted(expected)
    for name, tensor in tensors.items():
        assert np.array_equal(tensor, expected[name].numpy()), name
    assert checkpoint.config["tie_word_embeddings"] == model.config.tie_word_embeddings
    assert checkpoint.config["head_dim"] == model.config.head_dim
    if "attention_bias" not in overrides:
        spec = read_model(checkpoint.config)
        assert spec == read_model(model.config.to_dict())
        assert sum(1 for _ in assemble(spec, checkpoint.tensors())) > 0


@pytest.mark.parametrize(
    ("kind", "dtype"), [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "bfloat16")]
)
def test_stored_types(tmp_path: Path, kind: str, dtype: str) -> None:
    model = tiny(tmp_path, "llama", hidden_size=64)
    checkpoint = GgufCheckpoint(write(tmp_path / "tiny.gguf", model, "llama", kind=kind))
    assert checkpoint.config["dtype"] == dtype
    for name, tensor in checkpoint.tensors():
        expected = model.state_dict()[name].numpy()
        assert np.abs(tensor - expected).max() <= np.abs(expected).max() / 100


def test_it_goes_to_another_process_without_its_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", tiny(tmp_path, "llama"), "llama")
    checkpoint = GgufCheckpoint(path)
    sent = pickle.dumps(checkpoint)
    assert len(sent) < 10_000
    arrived = pickle.loads(sent)
    assert arrived.config == checkpoint.config
    for (name, tensor), (other_name, other) in zip(checkpoint.tensors(), arrived.tensors(), strict=True):
        assert name == other_name
        assert np.array_equal(tensor, other)


def test_linear_stretching_of_positions(tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path = write(tmp_path / "tiny.gguf", tiny(tmp_path, "llama"), "llama", extra)
    expected = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    assert GgufCheckpoint(path).config["rope_parameters"] == expected


@pytest.mark.parametrize(
    ("arch", "extra", "sentence"),
    [
        ("gpt2", {}, "holds a gpt2 model; of .gguf files Aphrodite runs llama, qwen2, qwen3"),
        ("llama", {"llama.expert_count": 8}, "mixture of experts"),
        ("llama", {"llama.rope.scaling.type": "yarn"}, "use the model's safetensors"),
    ],
)
def test_what_does_not_run(tmp_path: Path, arch: str, extra: dict[str, Any], sentence: str) -> None:
    path = write(tmp_path / "tiny.gguf", tiny(tmp_path, "llama"), arch, extra)
    with pytest.raises(UnsupportedModelError, match=sentence):
        GgufCheckpoint(path)


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", tiny(tmp_path, "llama"), "llama")
    data = path.read_bytes()
    for broken in (
        b"",
        b"GGUF",
        data[:200],
        data[:3000],
        data[: len(data) // 2],
        b"x" * 4000,
        data[:24] + b"\xff" * 900,
    ):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"tiny\.gguf is not a complete \.gguf file") as caught:
            GgufCheckpoint(path)
        assert caught.value.__cause__ is not None


def test_metadata_that_say_too_little(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "bare.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="does not say its model's hidden_size"):
        GgufCheckpoint(tmp_path / "bare.gguf")


def test_tensor_of_another_model(tmp_path: Path) -> None:
    model = tiny(tmp_path, "llama")
    state = model.state_dict()
    model.state_dict = lambda: state | {"model.layers.0.self_attn.more.weight": state["model.norm.weight"]}
    path = write(tmp_path / "tiny.gguf", model, "llama")
    with pytest.raises(CheckpointError, match=r"blk\.0\.more\.weight"):
        list(GgufCheckpoint(path).tensors())


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no such file"):
        GgufCheckpoint(tmp_path / "none.gguf")


def test_every_token_that_ends_a_turn_ends_an_answer(tmp_path: Path) -> None:
    model = tiny(tmp_path, "llama")
    eos = model.config.eos_token_id
    assert GgufCheckpoint(write(tmp_path / "eos.gguf", model, "llama")).generation_config == {"eos_token_id": [eos]}
    extra = {
        "tokenizer.ggml.eot_token_id": 17,
        "tokenizer.ggml.eom_token_id": 19,
        "tokenizer.ggml.tokens": ["<unk>", "<|im_start|>", "</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "ä"],
        "tokenizer.ggml.token_type": [2, 3, 3, 3, 1, 3, 1],  # one of them is ordinary text
    }
    found = GgufCheckpoint(write(tmp_path / "all.gguf", model, "llama", extra)).generation_config["eos_token_id"]
    assert found == sorted({2, 3, 5, 17, 19, eos})

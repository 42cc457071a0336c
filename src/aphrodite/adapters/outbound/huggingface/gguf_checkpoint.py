"""A .gguf file as a Hugging Face checkpoint.

The format is llama.cpp's: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aphrodite.domain.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

_CONTROL = 3  # the kind of tokens that are no text
# How Llama's, Qwen's, Phi's, Gemma's and their relatives' turns and texts end.
_END_TOKENS = frozenset(
    ("</s>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>",
     "<|end|>", "<end_of_turn>", "<end_of_utterance>", "<|end_of_turn|>")
)  # fmt: skip

_NUMBERS_AT_ONCE = 1 << 20  # bounds what dequantising takes beside its result


class GgufCheckpoint:
    """Configuration and weights of a .gguf file; implements the CheckpointSource port.

    Weights come as float32 under the names that a Hugging Face checkpoint gives them.

    Raises ModelNotFoundError, UnsupportedModelError or CheckpointError from the constructor, CheckpointError from
    `tensors`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        reader = _open(path)
        self._architecture = str(_field(reader, "general.architecture"))
        if self._architecture not in _ARCHITECTURES:
            raise UnsupportedModelError(
                f"{path} holds a {self._architecture} model; of .gguf files Aphrodite runs {', '.join(_ARCHITECTURES)}."
            )
        self.config: Mapping[str, Any] = _read_config(path, reader, self._architecture)
        self.generation_config: Mapping[str, Any] = {"eos_token_id": _end_token_ids(reader)}
        self.add_space_prefix = bool(_field(reader, "tokenizer.ggml.add_space_prefix", True))
        # The reader itself is let go: it holds the vocabulary in many small objects, hundreds of megabytes of them.
        self._tensors: tuple[ReaderTensor, ...] | None = tuple(reader.tensors)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": None}  # views of the mapped file; another process maps it itself

    def names(self) -> list[str]:
        """Every tensor's name, in the order of the file."""
        return [self._name(tensor.name) for tensor in self._tensors or _open(self._path).tensors]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor once, in the order of the file, float32."""
        for tensor in self._tensors or _open(self._path).tensors:
            name = self._name(tensor.name)
            try:
                values = _dequantise(tensor)
            except (ValueError, NotImplementedError) as error:
                kind = tensor.tensor_type.name
                raise CheckpointError(f"The tensor {tensor.name} in {self._path} ({kind}) cannot be read.") from error
            if self._architecture == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
                values = _undo_interleaving(values, self.config["num_attention_heads"])
            elif self._architecture == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
                values = _undo_interleaving(values, self.config["num_key_value_heads"])
            yield name, values

    def _name(self, gguf_name: str) -> str:
        stem, _, leaf = gguf_name.rpartition(".")
        layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
        if layer and layer[2] in _LAYER_NAMES:
            return f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{leaf}"
        if stem in _NAMES:
            return f"{_NAMES[stem]}.{leaf}"
        raise CheckpointError(f"{self._path} holds a tensor that Aphrodite does not know: {gguf_name}.")


def _open(path: Path) -> "GGUFReader":
    from gguf import GGUFReader

    if not path.is_file():
        raise ModelNotFoundError(f"No model at {path}: there is no such file.")
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
        # the reader takes the file for granted, and so fails in many ways where it is cut
        raise CheckpointError(f"{path} is not a complete .gguf file; download it again.") from error
    if reader.get_field("general.architecture") is None:
        raise CheckpointError(f"{path} does not say which architecture its model has.")
    return reader


def _field(reader: "GGUFReader", key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _end_token_ids(reader: "GGUFReader") -> list[int]:
    """Every token that ends an answer: those that the file names, and control tokens of the known names."""
    named = (_field(reader, f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    ids = {int(token_id) for token_id in named if token_id is not None}
    tokens, kinds = reader.get_field("tokenizer.ggml.tokens"), _field(reader, "tokenizer.ggml.token_type", [])
    if tokens is not None:
        ids |= {i for i, kind in enumerate(kinds) if kind == _CONTROL and tokens.contents(i) in _END_TOKENS}
    return sorted(ids)


def _stored_format(reader: "GGUFReader") -> str:
    """The number format that the file's matrices need; quantised ones have no more digits than bfloat16."""
    kinds = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
    if kinds == {"F32"}:
        return "float32"
    return "float16" if kinds <= {"F16", "F32"} else "bfloat16"


def _read_config(path: Path, reader: "GGUFReader", arch: str) -> dict[str, Any]:
    """config.json as it was before the file was made, completed by transformers."""
    from transformers import AutoConfig

    names = {tensor.name for tensor in reader.tensors}
    if _field(reader, f"{arch}.expert_count"):
        raise UnsupportedModelError(f"{path} holds a mixture of experts, which Aphrodite does not run.")
    heads = _field(reader, f"{arch}.attention.head_count")
    settings = {
        "architectures": [_ARCHITECTURES[arch]],
        "vocab_size": next((int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight"), None),
        "hidden_size": _field(reader, f"{arch}.embedding_length"),
        "intermediate_size": _field(reader, f"{arch}.feed_forward_length"),
        "num_hidden_layers": _field(reader, f"{arch}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _field(reader, f"{arch}.attention.head_count_kv", heads),
        "max_position_embeddings": _field(reader, f"{arch}.context_length"),
        "rms_norm_eps": _field(reader, f"{arch}.attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(path, reader, arch, names),
        "tie_word_embeddings": "output.weight" not in names,
        "dtype": _stored_format(reader),
    }
    missing = [key for key, value in settings.items() if value is None]
    if missing:
        raise CheckpointError(f"{path} does not say its model's {missing[0]}.")
    for token, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        settings[f"{token}_token_id"] = _field(reader, f"tokenizer.ggml.{key}_token_id")
    head_dim = _field(reader, f"{arch}.attention.key_length")
    if head_dim is not None:
        settings["head_dim"] = head_dim
    if arch == "llama":
        settings["attention_bias"] = "blk.0.attn_q.bias" in names
    try:
        return dict(AutoConfig.for_model(arch, **settings).to_dict())
    except Exception as error:  # transformers validates each family in its own way
        raise CheckpointError(f"The metadata of {path} do not describe a {arch} model.") from error


def _rope(path: Path, reader: "GGUFReader", arch: str, names: set[str]) -> dict[str, Any]:
    theta = _field(reader, f"{arch}.rope.freq_base", 10000.0)
    kind = _field(reader, f"{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear") or "rope_freqs.weight" in names:
        raise UnsupportedModelError(
            f"{path} stretches its positions in a way that is not read from .gguf files; use the model's safetensors."
        )
    if kind == "linear":
        factor = _field(reader, f"{arch}.rope.scaling.factor", 1.0)
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    return {"rope_type": "default", "rope_theta": theta}


def _dequantise(tensor: "ReaderTensor") -> np.ndarray:
    """The tensor as float32, [rows, columns] or [columns]; rows are done a few at a time."""
    from gguf import dequantize

    shape = tuple(int(size) for size in reversed(tensor.shape))  # the file counts from the fastest-moving axis
    values = np.empty(shape, np.float32)
    if values.ndim == 1:
        values[:] = dequantize(tensor.data, tensor.tensor_type)
        return values
    step = max(1, _NUMBERS_AT_ONCE // max(1, shape[-1]))
    for start in range(0, shape[0], step):
        values[start : start + step] = dequantize(tensor.data[start : start + step], tensor.tensor_type)
    return values


def _undo_interleaving(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Put the rows of queries or keys back as Hugging Face has them, [heads * head size, ...] each.

    llama.cpp rotates neighbouring rows of a head, Hugging Face rows half a head apart; its converter therefore
    interleaves the halves for this architecture, and this one alone.
    """
    half = values.shape[0] // num_heads // 2
    return values.reshape(num_heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)

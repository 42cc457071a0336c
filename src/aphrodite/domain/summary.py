"""What was started, in a few lines for whoever started it."""

from collections.abc import Mapping
from typing import Any

from aphrodite.domain.ports import BackendDescription, BackendLimits


def describe_family(config: Mapping[str, Any]) -> str:
    """The families of a model, from its config.json: "llava (clip_vision_model, llama)"."""
    parts = [config.get(name) or {} for name in ("vision_config", "text_config", "llm_config")]
    inner = ", ".join(str(part["model_type"]) for part in parts if "model_type" in part)
    return f"{config.get('model_type')} ({inner})" if inner else str(config.get("model_type"))


def describe_engine(backend: BackendDescription, limits: BackendLimits) -> list[str]:
    """Device, number format, kernels, threads; the KV cache, and how many requests of full length it holds at once."""
    threads = "" if backend.num_threads is None else f", {backend.num_threads} threads"
    num_blocks = limits.num_blocks - 1  # one is padding's
    num_tokens = num_blocks * limits.block_size
    fitting = min(limits.max_num_seqs, num_blocks // -(-limits.max_model_len // limits.block_size))
    return [
        f"Runs on {backend.device} in {backend.dtype} ({backend.dtype_reason}), by {backend.execution}{threads}.",
        f"KV cache: {num_blocks} blocks of {limits.block_size} tokens, {num_tokens} tokens in all. max_model_len is "
        f"{limits.max_model_len} tokens; {fitting} requests of that length fit at once, of at most "
        f"{limits.max_num_seqs} that run.",
    ]

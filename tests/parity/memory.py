"""Key/value caches so small that requests crowd each other out."""

from pathlib import Path

from transformers import AutoConfig

from aphrodite import LLM


def kv_cache_bytes(folder: Path, num_tokens: int, block_size: int) -> int:
    """Float32 keys and values of so many tokens, in blocks, and one block more for the padding."""
    own_form = folder / "transformers"  # of a model that comes with code of its own
    text = AutoConfig.from_pretrained(own_form if own_form.is_dir() else folder).get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * head_dim * 4
    return (-(-num_tokens // block_size) + 1) * block_size * per_token


def num_preemptions(llm: LLM) -> int:
    return llm._engine.scheduler.num_preemptions

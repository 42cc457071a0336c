"""What makes training on a CPU with bfloat16 units about twice as fast.

Attention in plain matrix products, as PyTorch's fused kernels are slow in bfloat16 there, and memory that is kept.
"""

import ctypes
import platform

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration
from transformers.masking_utils import sdpa_mask

NAME = "plain_products"

# mallopt(3) parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_memory() -> None:
    """Have glibc keep freed memory: returned to the system, large tensors fault in page by page at every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 2**26)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """A boolean mask [B, 1, T, T], true where seen, as a bfloat16 term to add to the scores."""
    return torch.zeros_like(mask, dtype=torch.bfloat16).masked_fill_(~mask, -1e9)


def attend(
    _module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Softmax attention: query [B, H, T, D], key and value [B, KV, S, D] to [B, T, H, D]."""
    group = query.shape[1] // key.shape[1]
    if group > 1:
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = (query * scaling) @ key.transpose(-1, -2)  # [B, H, T, S]
    if attention_mask is not None:
        scores = scores + attention_mask
    # Not under autocast, which would go through float32 and back.
    with torch.autocast(query.device.type, enabled=False):
        weights = scores.softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), None


def use(model: LlavaForConditionalGeneration) -> None:
    """Make both towers of a model attend this way."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)

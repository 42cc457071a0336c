"""Rotary positions for queries and keys, and the write to the KV cache, in one kernel.

Letters: T tokens, H query heads, K key/value heads, D head size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.paging import STEP_FIELDS

_HEADS_PER_PROGRAM = 8


def rotate_and_cache(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    kv_slots: Tensor,
    keys: Tensor,
    values: Tensor,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Rotate a step's queries and keys, and write keys and values to one layer's cache. Returns queries [T, H, D].

    `qkv` [T, H + 2 * K, D] is contiguous and keeps its content. `cos` and `sin` are [T, D / 2], `kv_slots` int32 [T],
    `keys` and `values` [slots, K, D]. Dimension i pairs with i + D / 2 (RoPE, arXiv
    2104.09864, as Hugging Face lays weights out). With `q_norm` and `k_norm` [D], queries and keys first take an RMS
    norm over each head, as in Qwen3. Computed in float32 and rounded once.
    """
    tokens, all_heads, head_dim = qkv.shape
    kv_heads = keys.shape[1]
    heads = all_heads - 2 * kv_heads
    queries = torch.empty(tokens, heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    has_norm = q_norm is not None and k_norm is not None
    _rotate_and_cache[(tokens, triton.cdiv(all_heads, _HEADS_PER_PROGRAM))](
        qkv,
        cos,
        sin,
        kv_slots,
        queries,
        keys,
        values,
        q_norm if has_norm else qkv,
        k_norm if has_norm else qkv,
        eps,
        has_norm=has_norm,
        heads=heads,
        kv_heads=kv_heads,
        half=head_dim // 2,
        block_heads=_HEADS_PER_PROGRAM,
        block_half=triton.next_power_of_2(head_dim // 2),
        num_warps=4,
    )
    return queries


@triton.jit(do_not_specialize_on_alignment=STEP_FIELDS)
def _rotate_and_cache(
    qkv,  # [T, H + 2 * K, D]
    cos,  # [T, D / 2]
    sin,
    kv_slots,  # [T]
    queries,  # [T, H, D]
    keys,  # [slots, K, D]
    values,
    q_norm,  # [D]
    k_norm,
    eps,
    has_norm: tl.constexpr,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    half: tl.constexpr,
    block_heads: tl.constexpr,
    block_half: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * block_heads + tl.arange(0, block_heads)[:, None]
    dim = tl.arange(0, block_half)[None, :]
    in_head = dim < half
    inside = (head < heads + 2 * kv_heads) & in_head
    source = qkv + (token * (heads + 2 * kv_heads) + head) * (2 * half) + dim
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask=inside, other=0.0).to(tl.float32)
    is_query = head < heads
    is_value = head >= heads + kv_heads

    normed_first, normed_second = first, second
    if has_norm:
        mean_square = tl.sum(first * first + second * second, axis=1, keep_dims=True) / (2 * half)
        inverse_rms = tl.rsqrt(mean_square + eps)
        q_first = tl.load(q_norm + dim, mask=in_head, other=0.0).to(tl.float32)
        q_second = tl.load(q_norm + half + dim, mask=in_head, other=0.0).to(tl.float32)
        k_first = tl.load(k_norm + dim, mask=in_head, other=0.0).to(tl.float32)
        k_second = tl.load(k_norm + half + dim, mask=in_head, other=0.0).to(tl.float32)
        normed_first = first * inverse_rms * tl.where(is_query, q_first, k_first)
        normed_second = second * inverse_rms * tl.where(is_query, q_second, k_second)

    cosine = tl.load(cos + token * half + dim, mask=in_head, other=0.0).to(tl.float32)
    sine = tl.load(sin + token * half + dim, mask=in_head, other=0.0).to(tl.float32)
    dtype = queries.dtype.element_ty
    rotated_first = tl.where(is_value, first, normed_first * cosine - normed_second * sine).to(dtype)
    rotated_second = tl.where(is_value, second, normed_second * cosine + normed_first * sine).to(dtype)

    query = queries + (token * heads + head) * (2 * half) + dim
    tl.store(query, rotated_first, mask=inside & is_query)
    tl.store(query + half, rotated_second, mask=inside & is_query)
    slot = tl.load(kv_slots + tl.program_id(0)).to(tl.int64)
    key = keys + (slot * kv_heads + head - heads) * (2 * half) + dim
    is_key = (head >= heads) & (head < heads + kv_heads)
    tl.store(key, rotated_first, mask=inside & is_key)
    tl.store(key + half, rotated_second, mask=inside & is_key)
    value = values + (slot * kv_heads + head - heads - kv_heads) * (2 * half) + dim
    tl.store(value, rotated_first, mask=inside & is_value)
    tl.store(value + half, rotated_second, mask=inside & is_value)

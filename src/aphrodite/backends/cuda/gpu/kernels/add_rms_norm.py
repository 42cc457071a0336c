"""The residual stream's sum and its RMS normalisation in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor


def add_rms_norm(residual: Tensor, x: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """Add `x` to `residual`, in place, and return the normalised sum, all [T, E] (RMSNorm, arXiv 1910.07467).

    The sum is rounded to the residual's dtype, and normalised in float32 from there: what
    `torch.nn.functional.rms_norm(residual + x)` computes. Without `x` the residual stays as it is. All are contiguous.
    """
    tokens, width = residual.shape
    output = torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    _add_rms_norm[(tokens,)](
        residual,
        residual if x is None else x,
        weight,
        output,
        width,
        eps,
        adds=x is not None,
        block=block,
        num_warps=min(16, max(1, block // 512)),
    )
    return output


@triton.jit
def _add_rms_norm(
    residual,  # [T, E]
    x,  # [T, E]
    weight,  # [E]
    output,  # [T, E]
    width,
    eps,
    adds: tl.constexpr,
    block: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * width
    units = tl.arange(0, block)
    inside = units < width
    total = tl.load(residual + start + units, mask=inside, other=0.0)
    if adds:
        added = tl.load(x + start + units, mask=inside, other=0.0)
        total = (total.to(tl.float32) + added.to(tl.float32)).to(residual.dtype.element_ty)
        tl.store(residual + start + units, total, mask=inside)
    exact = total.to(tl.float32)
    inverse_rms = tl.rsqrt(tl.sum(exact * exact, axis=0) / width + eps)
    scaled = exact * inverse_rms * tl.load(weight + units, mask=inside, other=0.0).to(tl.float32)
    tl.store(output + start + units, scaled.to(output.dtype.element_ty), mask=inside)

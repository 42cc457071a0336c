"""The activation of CLIP's vision tower in one kernel; torch takes three, each of which goes over the memory anew."""

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 * x) in the place of x, of any shape and contiguous; computed in float32 and rounded once."""
    size = x.numel()  # a multiple of 16 in every tower, which triton sees: a thread moves 16 bytes at once
    _quick_gelu[(triton.cdiv(size, _BLOCK),)](x, size, block=_BLOCK, num_warps=4)
    return x


@triton.jit
def _quick_gelu(x, size, block: tl.constexpr):
    unit = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = unit < size
    given = tl.load(x + unit, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + unit, (given * tl.sigmoid(1.702 * given)).to(x.dtype.element_ty), mask=inside)

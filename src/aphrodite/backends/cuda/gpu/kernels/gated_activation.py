"""The middle of a gated MLP in one kernel: activation(gate) * up."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aphrodite.domain.architectures.activation import Activation

_BLOCK = 1024


def gated_activation(gate_up: Tensor, activation: Activation) -> Tensor:
    """`activation(gate) * up` of gate and up side by side, [T, 2 * I] to [T, I] (arXiv 2002.05202).

    Computed in float32 and rounded once. `gate_up` is contiguous.
    """
    tokens, inner = gate_up.shape[0], gate_up.shape[1] // 2
    output = torch.empty(tokens, inner, dtype=gate_up.dtype, device=gate_up.device)
    grid = (tokens, triton.cdiv(inner, _BLOCK))
    _gated_activation[grid](gate_up, output, inner, activation=activation, block=_BLOCK, num_warps=4)
    return output


@triton.jit
def _gated_activation(
    gate_up,  # [T, 2 * I]
    output,  # [T, I]
    inner,
    activation: tl.constexpr,
    block: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    units = tl.program_id(1) * block + tl.arange(0, block)
    inside = units < inner
    gate = tl.load(gate_up + token * 2 * inner + units, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + token * 2 * inner + inner + units, mask=inside, other=0.0).to(tl.float32)
    activated = _activate(gate, activation) * up
    tl.store(output + token * inner + units, activated.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _activate(x, activation: tl.constexpr):
    if activation == "silu":
        activated = x * tl.sigmoid(x)
    elif activation == "gelu":
        activated = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif activation == "gelu_tanh":
        # (1 + tanh(z)) / 2 is sigmoid(2 z), which Triton has.
        activated = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    else:
        tl.static_assert(activation == "quick_gelu")
        activated = x * tl.sigmoid(1.702 * x)
    return activated

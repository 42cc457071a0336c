"""Matrix products with a weight that is laid out, when the model is loaded, as the device reads it best."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from aphrodite.backends.cuda.cpu.linear import NativeLinear

Linear = Callable[[Tensor], Tensor]  # [..., inputs] -> [..., outputs]

_PACKED_FOR_ROWS = 16  # oneDNN chooses its layout for a number of rows, and takes any


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """The product with weight [outputs, inputs], plus bias [outputs].

    On a CPU the weight is copied into the layout of a C++ kernel for bfloat16, where there is one, or into oneDNN's, so
    that a product need not do that anew each time.
    """
    native = NativeLinear.create(weight, bias)
    if native is not None:
        return native
    if not _can_pack(weight):
        return partial(functional.linear, weight=weight, bias=bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)

    def product(x: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return result

    return product


def _can_pack(weight: Tensor) -> bool:
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.device.type != "cpu" or not has_onednn:
        return False
    is_bfloat16_fast = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or is_bfloat16_fast

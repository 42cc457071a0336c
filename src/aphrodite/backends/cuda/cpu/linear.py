"""bfloat16 matrix products in C++, on processors with AVX512-BF16."""

from collections.abc import Callable
from ctypes import c_int64, c_void_p

from torch import Tensor
from torch.nn.functional import pad

from aphrodite.backends.cuda.cpu.function import native_function

_PANEL_OUTPUTS, _LANES = 32, 16  # as in linear.h


class NativeLinear:
    """Holds a weight [outputs, inputs] in the layout of linear.h."""

    def __init__(self, multiply: Callable[..., None], weight: Tensor, bias: Tensor | None) -> None:
        self._multiply = multiply
        self._outputs, self._inputs = weight.shape
        num_missing = -self._outputs % _PANEL_OUTPUTS
        whole = pad(weight, (0, 0, 0, num_missing)) if num_missing else weight  # to pad is to copy, be it by nothing
        panels = whole.view(-1, _LANES, self._inputs // 2, 2).transpose(1, 2)
        self._weight = panels.contiguous()  # [outputs / 16, inputs / 2, 16, 2]
        self._bias = None if bias is None else bias.float()

    @classmethod
    def create(cls, weight: Tensor, bias: Tensor | None) -> "NativeLinear | None":
        """None where the device, the number format or the shape has no such kernel."""
        if weight.device.type != "cpu" or weight.shape[1] % 2:
            return None
        multiply = native_function("multiply", weight.dtype, *[c_void_p] * 4, *[c_int64] * 3)
        return None if multiply is None else cls(multiply, weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] to [..., outputs]."""
        x = x.contiguous()
        result = x.new_empty((*x.shape[:-1], self._outputs))
        self._multiply(
            x.data_ptr(),
            self._weight.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            result.data_ptr(),
            x.numel() // self._inputs,
            self._outputs,
            self._inputs,
        )
        return result

"""What the vision tower does on a GPU between its matrix products, as far as a CPU can tell."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from aphrodite.backends.cuda.vision_functions import VisionFunctions


class Allowed(TorchFunctionMode):
    """Notes which of torch's attentions a call may take."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, bool]] = []

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is scaled_dot_product_attention:
            cuda = torch.backends.cuda
            self.found.append({"flash": cuda.flash_sdp_enabled(), "cuDNN": cuda.cudnn_sdp_enabled()})
        return function(*args, **kwargs or {})


def test_attention_on_a_gpu_is_flash_and_never_cudnns() -> None:
    functions = VisionFunctions.choose("gelu", 16, torch.float32, torch.device("cuda"))
    qkv = torch.randn(2, 9, 3, 4, 16, generator=torch.Generator().manual_seed(0))  # [N, P, 3, H, D]
    with Allowed() as allowed:
        attended = functions.attention(qkv)
    assert allowed.found == [{"flash": True, "cuDNN": False}]
    assert torch.backends.cuda.cudnn_sdp_enabled()
    queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
    weights = (queries @ keys.transpose(2, 3) / 4).softmax(-1)
    torch.testing.assert_close(attended, (weights @ values).transpose(1, 2).flatten(2))

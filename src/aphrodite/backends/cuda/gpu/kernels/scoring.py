"""What scores the products of queries and keys become; called from kernels, which take powers of two of them."""

import triton
import triton.language as tl

from aphrodite.domain.architectures.spec import AttentionSpec

_LOG2_E = 1.4426950408889634


def scoring(attention: AttentionSpec) -> tuple[float, float]:
    """What products are multiplied with, and what `bent` bounds them by then; 0: nothing."""
    if attention.softcap is None:
        return attention.scale * _LOG2_E, 0.0
    return attention.scale / attention.softcap, attention.softcap * _LOG2_E


@triton.jit
def bent(scores, softcap: tl.constexpr):
    """softcap * tanh(scores), where there is one."""
    if softcap > 0:
        scores = softcap * (2.0 * tl.sigmoid(2.0 * scores) - 1.0)  # this is tanh
    return scores

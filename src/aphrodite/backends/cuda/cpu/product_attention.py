"""Attention as two batched products: on a CPU faster than torch's fused one, in bfloat16 twice as fast."""

from collections.abc import Callable

import torch
from torch import Tensor

from aphrodite.domain.architectures.spec import AttentionSpec

_MAX_SCORES = 1 << 21  # at once, so that they stay in the processor's cache

Softmax = Callable[[Tensor, float, int | None, int | None], Tensor]
"""(scores [P, G * T, C], a factor for them, T, window) to weights of the same shape; the scores may be overwritten.

With a number of tokens T the rows are those of a sequence's last T, once for each of G heads: they see the keys up to
themselves, and of those the last `window`. With None all see all.
"""


def product_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    softmax: Softmax,
    attention: AttentionSpec,
    num_tokens: int | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Attention (arXiv 1706.03762) of queries [P, G * T, D] over keys and values [P, C, D]: [P, G * T, D].

    `hidden` [T, C] says what is not seen, where that is another than in `Softmax`.
    """
    scores, scale = torch.bmm(queries, keys.transpose(1, 2)), attention.scale
    if attention.softcap is not None:
        scores.mul_(scale / attention.softcap).tanh_()
        scale = attention.softcap
    if hidden is not None:
        by_token = scores.mul_(scale).view(len(scores), -1, *hidden.shape)  # [P, G, T, C]
        return torch.bmm(by_token.masked_fill_(hidden, -torch.inf).softmax(dim=-1).view_as(scores), values)
    return torch.bmm(softmax(scores, scale, num_tokens, attention.window), values)


def picture_attention(qkv: Tensor, softmax: Softmax) -> Tensor:
    """Queries, keys and values [N, P, 3, H, D] of pictures' positions to their attention [N, P, H * D]."""
    num_pictures, num_positions, _, num_heads, head_dim = qkv.shape
    attention = AttentionSpec(head_dim**-0.5)
    at_once = max(1, _MAX_SCORES // (num_heads * num_positions**2))
    output = qkv.new_empty(num_pictures, num_positions, num_heads, head_dim)
    for part, target in zip(qkv.split(at_once), output.split(at_once), strict=True):  # type: ignore[no-untyped-call]
        queries, keys, values = part.permute(2, 0, 3, 1, 4).flatten(1, 2)  # each [N * H, P, D]
        pieces = queries.split(max(1, _MAX_SCORES // (len(queries) * num_positions)), dim=1)
        attended = torch.cat([product_attention(piece, keys, values, softmax, attention) for piece in pieces], dim=1)
        target.copy_(attended.view(-1, num_heads, num_positions, head_dim).transpose(1, 2))
    return output.flatten(2)


class TorchSoftmax:
    """Implements `Softmax`, and keeps the masks: a step's layers and chunks share them."""

    def __init__(self) -> None:
        self._masks: dict[tuple[int, int, int, int | None], Tensor] = {}

    def __call__(self, scores: Tensor, scale: float, num_tokens: int | None, window: int | None) -> Tensor:
        scores *= scale
        if num_tokens is not None:
            mask = self._mask(scores, num_tokens, window)
            scores[..., -mask.shape[-1] :].add_(mask)
        return scores.softmax(dim=-1)

    def _mask(self, scores: Tensor, num_tokens: int, window: int | None) -> Tensor:
        """What to add to the scores of the last keys, [G * T, last keys]; all see those before."""
        _, num_rows, num_keys = scores.shape
        if window is None or window >= num_keys:
            num_keys, window = num_tokens, None
        key = (num_rows, num_tokens, num_keys, window)
        if key not in self._masks:
            queries = torch.arange(num_keys - num_tokens, num_keys, device=scores.device)[:, None]  # [T, 1]
            positions = torch.arange(num_keys, device=scores.device)
            is_hidden = positions > queries
            if window is not None:
                is_hidden |= positions <= queries - window
            mask = torch.zeros(is_hidden.shape, dtype=scores.dtype, device=scores.device)
            self._masks[key] = mask.masked_fill_(is_hidden, -torch.inf).repeat(num_rows // num_tokens, 1)
        return self._masks[key]

"""A step that was launched, on its way to the host.

Letters: n tokens, K reported candidates.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.errors import step_error
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens
from aphrodite.domain.scheduling.bias import BiasChanges
from aphrodite.domain.scheduling.step import StepResult, TokenLogprobs

Reported = tuple[Tensor, ...]  # chosen log-probabilities [n], ranks [n], best token ids [n, K], their values [n, K]


class DevicePendingStep:
    """Copies to the host as soon as the step is done, in one go, without holding up the launch of the next."""

    def __init__(
        self,
        tokens: Tensor,
        logprobs: Reported | None,
        mirostat_bounds: Tensor | None,
        prompt_logprobs: dict[int, Reported],
    ) -> None:
        self._reports_tokens = logprobs is not None
        self._has_bounds = mirostat_bounds is not None
        self._prompt_rows = list(prompt_logprobs)
        bounds = () if mirostat_bounds is None else (mirostat_bounds,)
        tensors = [
            tokens.int(),
            *(logprobs or ()),
            *bounds,
            *(one for reported in prompt_logprobs.values() for one in reported),
        ]
        self._fields = [(tensor.shape, tensor.dtype) for tensor in tensors]
        words = [tensor.reshape(-1).view(torch.int32) for tensor in tensors]
        self._words = _to_host(words[0] if len(words) == 1 else torch.cat(words))
        self._device = tokens.device
        self._done: torch.cuda.Event | None = None
        if tokens.is_cuda:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def result(self) -> StepResult:
        if self._done is not None:
            try:
                self._done.synchronize()
            except RuntimeError as error:
                raise step_error(error, self._device) from error
        fields = self._unpacked()
        token_ids = next(fields)
        logprobs = _next_logprobs(fields) if self._reports_tokens else None
        bounds = next(fields) if self._has_bounds else None
        return StepResult(token_ids, logprobs, {row: _next_logprobs(fields) for row in self._prompt_rows}, bounds)

    def _unpacked(self) -> Iterator[np.ndarray]:
        start = 0
        for shape, dtype in self._fields:
            yield self._words[start : start + shape.numel()].view(dtype).view(shape).numpy()
            start += shape.numel()


class DeviceHeldStep:
    """A step whose logits are under way."""

    def __init__(self, draw: Callable[[AllowedTokens, BiasChanges], DevicePendingStep]) -> None:
        self._draw = draw

    def draw(self, allowed: AllowedTokens, changes: BiasChanges) -> DevicePendingStep:
        return self._draw(allowed, changes)


def _to_host(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def _next_logprobs(fields: Iterator[np.ndarray]) -> TokenLogprobs:
    chosen, ranks, token_ids, values = (next(fields) for _ in range(4))
    return TokenLogprobs(chosen, ranks, token_ids, values)

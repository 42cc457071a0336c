"""A step that was launched, on its way to the host."""

import torch
from torch import Tensor

from aphrodite.domain.errors import StepError
from aphrodite.domain.scheduling.step import StepResult, TokenLogprobs

Reported = tuple[Tensor, ...]  # chosen log-probabilities [n], ranks [n], best token ids [n, K], their values [n, K]


class DevicePendingStep:
    """Copies to the host as soon as the step is done, without holding up the launch of the next."""

    def __init__(self, tokens: Tensor, logprobs: Reported | None, prompt_logprobs: dict[int, Reported]) -> None:
        self._tokens = _to_host(tokens)
        self._logprobs = None if logprobs is None else tuple(map(_to_host, logprobs))
        self._prompt_logprobs = {row: tuple(map(_to_host, reported)) for row, reported in prompt_logprobs.items()}
        self._done: torch.cuda.Event | None = None
        if tokens.is_cuda:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def result(self) -> StepResult:
        if self._done is not None:
            try:
                self._done.synchronize()
            except RuntimeError as error:
                raise StepError("The step failed on the device; its requests were given up.") from error
        return StepResult(
            token_ids=self._tokens.int().numpy(),
            logprobs=None if self._logprobs is None else _as_logprobs(self._logprobs),
            prompt_logprobs={row: _as_logprobs(reported) for row, reported in self._prompt_logprobs.items()},
        )


def _to_host(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def _as_logprobs(reported: Reported) -> TokenLogprobs:
    chosen, ranks, token_ids, values = (tensor.numpy() for tensor in reported)
    return TokenLogprobs(chosen, ranks, token_ids, values)

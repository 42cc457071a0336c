"""Sampling on the device: penalties, temperature, top-k, top-p, min-p, one draw a row; other stages: stages.py.

Every row is treated the same whatever else is in the batch, so that a seeded request repeats its tokens: filters only
mask, and the draw is the inverse of the cumulative distribution in the vocabulary's own order.

Letters: S samples, V vocabulary, K reported candidates, C constrained samples, W words of bits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.stages import StageGroup, next_bounds, run_stages
from aphrodite.domain.scheduling.bias import first_bias
from aphrodite.domain.scheduling.sampling_words import SamplingNeeds
from aphrodite.domain.scheduling.step import RowPlan
from aphrodite.domain.scheduling.step_arrays import SampleArrays

Choose = Callable[[Tensor, SampleArrays[Tensor], SamplingNeeds], Tensor]
"""Draws a token, int64 [S], for each row of float32 logits [S, V] by the arrays' temperature, filters and draw."""

_MIN_TEMPERATURE = 1e-6  # greedy to all intents; logits divided by less might pass float32


class AllowedBits(NamedTuple):
    """An AllowedTokens on the device."""

    samples: Tensor  # int32 [C]
    bits: Tensor  # int32 [C, W]


class SlotState:
    """What the device remembers of each slot; one more slot than requests, for the padding."""

    def __init__(self, num_slots: int, vocab_size: int, device: torch.device) -> None:
        self._num_rows = num_slots + 1
        self._vocab_size = vocab_size
        self._device = device
        self.last_tokens = torch.zeros(self._num_rows, dtype=torch.int64, device=device)
        self.output_counts: Tensor | None = None  # int32 [slots, V], made when a request first has penalties
        self.in_prompt: Tensor | None = None  # bool [slots, V]
        self.mirostat_bounds = torch.zeros(self._num_rows, device=device)  # float32 [slots], bits
        self.bias: Tensor | None = None  # float32 [slots, V], made when a request first has a bias

    def start_numbers(self, row: RowPlan) -> list[np.ndarray]:
        """What the device must be sent of a request that begins to sample, for `start`."""
        if row.slot_start is None:
            return []
        numbers = []
        if row.sampling.has_penalties:
            numbers += [row.slot_start.prompt_token_ids, row.slot_start.output_token_ids]
        if row.sampling.has_bias:
            numbers.append(first_bias(row.sampling, self._vocab_size))
        return numbers

    def start(self, row: RowPlan, numbers: Iterator[Tensor]) -> None:
        """Set a slot up for a request that begins to sample; takes what is sent of `start_numbers` from `numbers`."""
        if row.slot_start is None:
            return
        if row.sampling.has_penalties:
            if self.output_counts is None or self.in_prompt is None:
                self.output_counts = torch.zeros(
                    self._num_rows, self._vocab_size, dtype=torch.int32, device=self._device
                )
                self.in_prompt = torch.zeros(self._num_rows, self._vocab_size, dtype=torch.bool, device=self._device)
            prompt, output = next(numbers), next(numbers)
            self.in_prompt[row.slot].zero_().index_fill_(0, prompt.long(), True)
            self.output_counts[row.slot].zero_().index_add_(0, output.long(), torch.ones_like(output))
        if row.sampling.has_mirostat:
            self.mirostat_bounds[row.slot].fill_(row.slot_start.mirostat_bound)
        if row.sampling.has_bias:
            if self.bias is None:
                self.bias = torch.zeros(self._num_rows, self._vocab_size, device=self._device)
            self.bias[row.slot] = next(numbers)

    def change_bias(self, slots: Tensor, token_ids: Tensor, values: Tensor) -> None:
        """What is added to these tokens' logits [n] from now on, of slots whose requests have a bias."""
        assert self.bias is not None
        self.bias[slots.long(), token_ids.long()] = values


def sample(
    logits: Tensor,
    arrays: SampleArrays[Tensor],
    needs: SamplingNeeds,
    suppressed: Tensor | None,
    allowed: AllowedBits | None,
    state: SlotState,
    choose: Choose,
    groups: Sequence[StageGroup] = (),
) -> Tensor:
    """Draw a token for each row of float32 logits [S, V], which is overwritten, and keep it in its slot.

    `suppressed` int32 [n, 2] holds (sample, token id) pairs that must not be drawn, None: none; of the samples in
    `allowed` nothing else may be; `groups` have stages of their own. Returns int64 [S].
    """
    slots = arrays.slots.long()  # [S]
    if needs.bias and state.bias is not None:
        logits += torch.where(arrays.has_bias[:, None] > 0, state.bias[slots], 0.0)
    if needs.penalties and state.output_counts is not None and state.in_prompt is not None:
        _penalize(logits, arrays, state.output_counts[slots], state.in_prompt[slots])
    if suppressed is not None and len(suppressed):
        # Assigning the number itself would wait for the device: torch brings it there from the host.
        never = logits.new_full((), -torch.inf)
        logits.index_put_((suppressed[:, 0].long(), suppressed[:, 1].long()), never)
    if allowed is not None and len(allowed.samples):
        _forbid_others(logits, allowed)
    if groups:
        run_stages(logits, groups, state.mirostat_bounds[slots])
    tokens = choose(logits, arrays, needs)
    state.last_tokens[slots] = tokens
    for group in groups:
        if group.has_mirostat:
            bounds = next_bounds(logits, tokens, group, state.mirostat_bounds[slots])
            state.mirostat_bounds[slots[group.samples]] = bounds
    if needs.penalties and state.output_counts is not None:
        state.output_counts[slots, tokens] += 1
    return tokens


def choose_tokens(logits: Tensor, arrays: SampleArrays[Tensor], needs: SamplingNeeds) -> Tensor:
    """`Choose` in plain torch."""
    tokens = logits.argmax(dim=-1)
    if not needs.draws:
        return tokens
    temperature = arrays.temperature[:, None]
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature.clamp(min=_MIN_TEMPERATURE))
    if needs.filters:
        _filter(scaled, arrays)
    return torch.where(greedy[:, 0], tokens, _draw(scaled, arrays.uniform))


def candidates(logprobs: Tensor, chosen: Tensor, num_candidates: int) -> tuple[Tensor, ...]:
    """Of log-probabilities [n, V]: those of the chosen tokens [n], their ranks [n], and the K best ids and values."""
    picked = logprobs.gather(1, chosen[:, None])
    ranks = (logprobs > picked).sum(dim=-1, dtype=torch.int32) + 1
    best = logprobs.topk(min(num_candidates, logprobs.shape[-1]), dim=-1)
    return picked[:, 0], ranks, best.indices.int(), best.values


def _penalize(logits: Tensor, arrays: SampleArrays[Tensor], output_counts: Tensor, in_prompt: Tensor) -> None:
    generated = output_counts > 0  # [S, V]
    repetition = arrays.repetition_penalty[:, None]
    repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits.copy_(torch.where(generated | in_prompt, repeated, logits))
    logits -= arrays.frequency_penalty[:, None] * output_counts
    logits -= arrays.presence_penalty[:, None] * generated


def _forbid_others(logits: Tensor, allowed: AllowedBits) -> None:
    """Leave the samples in `allowed` these tokens alone."""
    places = torch.arange(8, dtype=torch.uint8, device=logits.device)
    bits = torch.bitwise_left_shift(torch.ones_like(places), places)
    is_forbidden = allowed.bits.view(torch.uint8)[:, :, None] & bits == 0  # [C, 4 * W, 8], as bytes are little-endian
    is_forbidden = is_forbidden.flatten(1)[:, : logits.shape[1]]
    if len(allowed.samples) == len(logits):
        logits.masked_fill_(is_forbidden, -torch.inf)
    else:
        samples = allowed.samples.long()
        logits.index_copy_(0, samples, logits[samples].masked_fill_(is_forbidden, -torch.inf))


def _filter(scaled: Tensor, arrays: SampleArrays[Tensor]) -> None:
    """Mask what top-k, then top-p, then min-p leave out, in place. Rows without a filter stay as they are."""
    top_k, top_p, min_p = arrays.top_k[:, None], arrays.top_p[:, None], arrays.min_p[:, None]
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(scaled.shape[-1], device=scaled.device)
    ordered.masked_fill_((top_k > 0) & (ranks >= top_k), -torch.inf)
    probabilities = torch.softmax(ordered, dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # probability of all that is more likely
    ordered.masked_fill_((top_p < 1) & (before >= top_p), -torch.inf)
    ordered.masked_fill_(probabilities < min_p * probabilities[:, :1], -torch.inf)
    scaled.scatter_(1, order, ordered)


def _draw(scaled: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the cumulative distribution passes the draw, int64 [S]."""
    # In float64 the order in which a GPU adds them up, which is not the same in every batch, makes no difference.
    cumulative = torch.softmax(scaled, dim=-1).cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last = (cumulative < total).sum(dim=-1, keepdim=True)  # rounding must not carry a draw past the last possible token
    return torch.minimum(drawn, last)[:, 0]

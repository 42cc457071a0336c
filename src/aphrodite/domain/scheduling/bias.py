"""What is added to the logits of a slot's request.

Letters: V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class BiasChanges:
    """What the biases of slots are from now on; all else of them stays."""

    slots: np.ndarray  # int32 [n]
    token_ids: np.ndarray  # int32 [n]
    values: np.ndarray  # float32 [n]

    def __len__(self) -> int:
        return len(self.slots)


NO_CHANGES = BiasChanges(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


def first_bias(sampling: SamplingParams, vocab_size: int) -> np.ndarray:
    """A request's bias before its history is looked at, float32 [V]; minus infinity for what is never drawn."""
    bias = np.zeros(vocab_size, dtype=np.float32)
    if sampling.allowed_token_ids is not None:
        bias.fill(-np.inf)
        bias[list(sampling.allowed_token_ids)] = 0.0
    for token_id, value in sampling.logit_bias.items():
        bias[token_id] += value
    bias[list(sampling.banned_token_ids)] = -np.inf
    return bias


def first_bias_of(sampling: SamplingParams, token_ids: Sequence[int]) -> list[float]:
    """Some of these."""
    banned = set(sampling.banned_token_ids)
    if sampling.allowed_token_ids is not None:
        banned.update(set(token_ids).difference(sampling.allowed_token_ids))
    return [-np.inf if token_id in banned else sampling.logit_bias.get(token_id, 0.0) for token_id in token_ids]

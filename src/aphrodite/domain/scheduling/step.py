"""What crosses to the hardware and comes back: StepPlan -> StepResult.

Letters: T tokens of the step, R rows (requests in it), S rows that sample, K reported candidates.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aphrodite.domain.architectures.images.image import ImageInput

if TYPE_CHECKING:
    from aphrodite.domain.prompting.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class ImageToEncode:
    """An image whose features the backend must compute in this step, and the rows of its feature array to keep them in.

    Rows are written anew without notice once no request needs what they hold.
    """

    image: ImageInput
    rows: np.ndarray  # int32 [features]


@dataclass(frozen=True, slots=True)
class SlotStart:
    """What a slot must know before its request samples for the first time, or again after a preemption."""

    prompt_token_ids: np.ndarray  # int32 [prompt tokens]
    output_token_ids: np.ndarray  # int32 [tokens sampled before a preemption]


class RowPlan(NamedTuple):  # and no dataclass: a step has hundreds, and a tuple is made in half the time
    """One request's part of a step: run `num_tokens` tokens from position `start` on.

    A decode row carries no token: the slot's last sampled token is on the device already.
    """

    slot: int  # stable for the time that the request runs
    start: int  # position of the row's first token
    num_tokens: int
    token_ids: np.ndarray | None  # int32 [num_tokens]; None: the slot's last sampled token
    block_ids: np.ndarray  # int32 [blocks that hold positions 0 ... start + num_tokens - 1]
    samples: bool  # whether the last token's logits are sampled
    sampling: "SamplingParams"
    seed: int  # the request's own; with the position it fixes the draw
    suppressed_token_ids: tuple[int, ...] = ()  # never sampled in this step: ends of sequence before min_tokens
    slot_start: SlotStart | None = None
    feature_rows: np.ndarray | None = None  # int32 [num_tokens], for each token the feature row that takes the place
    # of its embedding, -1 where none does; None: no token has one
    prompt_targets: np.ndarray | None = None  # int32 [n <= num_tokens], the token that follows each of the row's first
    # n tokens; set when the request asks for prompt_logprobs


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: its rows, and the images to encode first."""

    rows: tuple[RowPlan, ...]  # single-token rows first, so that they can be run as one batch
    encode: tuple[ImageToEncode, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(row.num_tokens for row in self.rows)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities under the model's own distribution, before penalties and temperature."""

    chosen: np.ndarray  # float32 [n]
    chosen_ranks: np.ndarray  # int32 [n], 1 for the most likely token
    top_token_ids: np.ndarray  # int32 [n, K], most likely first
    top_logprobs: np.ndarray  # float32 [n, K]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step sampled, in the order of the plan's sampling rows."""

    token_ids: np.ndarray  # int32 [S]
    logprobs: TokenLogprobs | None  # n = S; None when no row asked
    prompt_logprobs: dict[int, TokenLogprobs]  # row index -> n = the row's prompt_targets

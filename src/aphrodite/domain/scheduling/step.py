"""What crosses to the hardware and comes back: StepPlan -> StepResult.

Letters: T tokens of the step, R rows (requests in it), D decode rows, B blocks a row, S rows that sample, W words of a
sample, K reported candidates.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aphrodite.domain.architectures.images.image import ImageInput
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.sampling_words import NUM_WORDS, sampling_words


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
    mirostat_bound: float = 0.0  # bits, by now; for Mirostat alone


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One request's part of a step: run `num_tokens` tokens from position `start` on.

    A decode row carries no token, the slot's last sampled one is on the device already, and samples the next.
    """

    slot: int  # stable for the time that the request runs
    start: int  # position of the row's first token
    num_tokens: int
    token_ids: np.ndarray | None  # int32 [num_tokens]; None: the slot's last sampled token
    block_ids: np.ndarray  # int32 [blocks that hold positions 0 ... start + num_tokens - 1]
    samples: bool  # whether the last token's logits are sampled
    sampling: SamplingParams
    seed: int  # the request's own; with the position it fixes the draw
    rope_offset: int = 0  # of a decode row: from the token's place to its rotary position
    suppressed_token_ids: tuple[int, ...] = ()  # never sampled in this step: ends of sequence before min_tokens
    slot_start: SlotStart | None = None
    feature_rows: np.ndarray | None = None  # int32 [num_tokens], for each token the feature row that takes the place
    # of its embedding, -1 where none does; None: no token has one
    rope_positions: np.ndarray | None = None  # int32 [3, num_tokens]; None: the tokens' places, three times
    visible_until: np.ndarray | None = None  # int32 [num_tokens], the position before which each token sees what
    # stands there, where that is more than itself and those before it; None: nowhere. Never beyond the row's last token
    prompt_targets: np.ndarray | None = None  # int32 [n <= num_tokens], the token that follows each of the row's first
    # n tokens; set when the request asks for prompt_logprobs


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """The decode rows of a step side by side: there are hundreds, and nothing is done for each."""

    slots: np.ndarray  # int32 [D]
    starts: np.ndarray  # int32 [D]
    rope_offsets: np.ndarray  # int32 [D] from a token's place to its rotary position
    block_table: np.ndarray  # int32 [D, B], 0 behind a row's last block
    sampling: np.ndarray  # int32 [D, W], see `sampling_words`
    suppressed: np.ndarray  # int32 [n, 2]: (row, token id) that must not be sampled

    def __len__(self) -> int:
        return len(self.slots)

    @classmethod
    def of(cls, rows: list[RowPlan]) -> "DecodeRows":
        """Out of rows one by one, of which there may be none."""
        block_table = np.zeros((len(rows), max((len(row.block_ids) for row in rows), default=0)), dtype=np.int32)
        for index, row in enumerate(rows):
            block_table[index, : len(row.block_ids)] = row.block_ids
        words = [sampling_words(row.sampling, row.seed) for row in rows]
        pairs = [(index, token_id) for index, row in enumerate(rows) for token_id in row.suppressed_token_ids]
        return cls(
            slots=np.array([row.slot for row in rows], dtype=np.int32),
            starts=np.array([row.start for row in rows], dtype=np.int32),
            rope_offsets=np.array([row.rope_offset for row in rows], dtype=np.int32),
            block_table=block_table,
            sampling=np.array(words, dtype=np.int32).reshape(-1, NUM_WORDS),
            suppressed=np.array(pairs, dtype=np.int32).reshape(-1, 2),
        )


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: its rows, and the pictures to encode first.

    The decode rows come first, then the other rows of one token: what has one token can be run as one batch.
    """

    decode: DecodeRows
    prompts: tuple[RowPlan, ...]  # pieces of prompts, and of what a preempted request had before
    encode: tuple[ImageToEncode, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[RowPlan], encode: tuple[ImageToEncode, ...] = ()) -> "StepPlan":
        """Out of rows one by one."""
        by_length = sorted(rows, key=lambda row: row.num_tokens > 1)
        decode = DecodeRows.of([row for row in by_length if row.token_ids is None])
        return cls(decode, tuple(row for row in by_length if row.token_ids is not None), encode)

    @property
    def num_rows(self) -> int:
        return len(self.decode) + len(self.prompts)

    @property
    def num_tokens(self) -> int:
        return len(self.decode) + sum(row.num_tokens for row in self.prompts)

    @property
    def num_samples(self) -> int:
        return len(self.decode) + sum(row.samples for row in self.prompts)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities under the model's own distribution, before penalties and temperature."""

    chosen: np.ndarray  # float32 [n]
    chosen_ranks: np.ndarray  # int32 [n], 1 for the most likely token
    top_token_ids: np.ndarray  # int32 [n, K], most likely first
    top_logprobs: np.ndarray  # float32 [n, K]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step sampled, in the order of the plan's sampling rows: first the decode rows."""

    token_ids: np.ndarray  # int32 [S]
    logprobs: TokenLogprobs | None  # n = S; None when no row asked
    prompt_logprobs: dict[
        int, TokenLogprobs
    ]  # index of the row among the plan's prompts -> n = the row's prompt_targets
    mirostat_bounds: np.ndarray | None = (
        None  # float32 [S], bits, of rows with Mirostat from now on; None: there is none
    )

"""One request's state while it waits and runs."""

from enum import Enum
from typing import NamedTuple

import numpy as np

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.rope_positions import rope_positions


class RequestStatus(Enum):
    NEW = "new"  # the scheduler does not know it yet
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Owner(NamedTuple):
    """On whose behalf a sequence runs; owners take turns."""

    client: str = ""  # an API key or an address
    request: str = ""  # one of the client's


NOBODY = Owner()
"""The one owner of all that runs offline."""


class Request:
    """Tokens and progress of one sequence.

    tokens      |0 ............. num_prompt_tokens ........ num_tokens|      known on the host
    planned KV  |0 .................................. num_computed|          written by the steps planned so far
    in flight                                          |num_tokens ... + num_in_flight|   sampled, not yet known
    """

    __slots__ = (
        "block_hashes",
        "block_ids",
        "images",
        "is_prefix_masked",
        "max_total_tokens",
        "mirostat_bound",
        "num_blocks",
        "num_cached_tokens",
        "num_computed",
        "num_images_done",
        "num_in_flight",
        "num_overtaken",
        "num_prompt_tokens",
        "num_registered_blocks",
        "num_rows_in_flight",
        "num_tokens",
        "order",
        "owner",
        "priority",
        "request_id",
        "rope_offset",
        "rope_positions",
        "sampling",
        "seed",
        "seniority",
        "slot",
        "slot_started",
        "status",
        "stop_token_ids",
        "tokens",
        "whole_ranges",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: list[int],
        sampling: SamplingParams,
        *,
        seed: int,
        order: tuple[int, int],
        max_total_tokens: int,
        stop_token_ids: tuple[int, ...] = (),
        images: tuple[ImageSpan, ...] = (),
        owner: Owner = NOBODY,
        priority: int = 0,
        is_prefix_masked: bool = False,
    ) -> None:
        self.request_id = request_id
        self.sampling = sampling
        self.seed = seed
        self.order = order  # arrival, then index among the completions of one prompt
        self.max_total_tokens = max_total_tokens  # prompt and output; the sequence ends there
        self.stop_token_ids = stop_token_ids  # not sampled before min_tokens
        self.images = images  # in the order of their tokens
        # int32 [3, prompt tokens], and from a later token's place to its position; None, 0: positions are places
        self.rope_positions, self.rope_offset = rope_positions(len(prompt_token_ids), images)
        self.is_prefix_masked = (
            is_prefix_masked  # whether the prompt's tokens see each other, those behind them as well
        )
        self.num_images_done = 0  # images whose tokens were all planned: their features are needed no more
        self.owner = owner
        self.priority = priority  # among the client's own: the lowest is first
        self.seniority = -1  # place in the order of first admissions; -1 before
        self.num_overtaken = 0  # others that were admitted while this one, the first in line, had no room
        self.status = RequestStatus.NEW
        self.tokens = np.array(prompt_token_ids, dtype=np.int32)  # [capacity], the first num_tokens are set
        self.num_tokens = self.num_prompt_tokens = len(prompt_token_ids)
        self.whole_ranges = _whole_ranges(self)  # places of tokens that see each other and run in one step
        self.num_cached_tokens = -1  # of the prompt, found in the prefix cache; -1 before the first admission
        self.slot = -1
        self.mirostat_bound = 2 * sampling.mirostat_tau  # bits, as of the last known token
        self.slot_started = False  # whether the slot samples: from now on every row is a decode row
        self.num_computed = 0
        self.num_in_flight = 0
        self.num_rows_in_flight = 0  # steps launched and not committed that this request has a row in
        self.block_ids = np.empty(0, dtype=np.int32)  # [capacity], the first num_blocks are set
        self.num_blocks = 0
        self.block_hashes: list[bytes] = []  # of the full blocks of known tokens
        self.num_registered_blocks = 0

    @property
    def finished(self) -> bool:
        return self.status is RequestStatus.FINISHED

    @property
    def num_output_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> np.ndarray:  # int32 [num_output_tokens]
        return self.tokens[self.num_prompt_tokens : self.num_tokens]

    @property
    def suppressed_token_ids(self) -> tuple[int, ...]:
        """Before min_tokens the ends of a sequence, unless nothing else is allowed: something must be sampled."""
        allowed = self.sampling.allowed_token_ids
        return () if allowed is not None and set(allowed) <= set(self.stop_token_ids) else self.stop_token_ids

    @property
    def num_runnable(self) -> int:
        """Tokens that a step could run now; 0 when the token in flight is the last one allowed."""
        total = self.num_tokens + self.num_in_flight
        return 0 if total >= self.max_total_tokens else total - self.num_computed

    def append_token(self, token_id: int) -> None:
        if self.num_tokens == len(self.tokens):
            grown = np.empty(min(self.max_total_tokens, 2 * len(self.tokens) + 64), dtype=np.int32)
            grown[: self.num_tokens] = self.tokens
            self.tokens = grown
        self.tokens[self.num_tokens] = token_id
        self.num_tokens += 1

    def append_blocks(self, block_ids: list[int]) -> None:
        stop = self.num_blocks + len(block_ids)
        if stop > len(self.block_ids):
            grown = np.empty(2 * stop, dtype=np.int32)
            grown[: self.num_blocks] = self.block_ids[: self.num_blocks]
            self.block_ids = grown
        self.block_ids[self.num_blocks : stop] = block_ids
        self.num_blocks = stop

    def take_blocks(self) -> list[int]:
        """Give up all blocks and the KV in them; the tokens are run again from the first."""
        taken: list[int] = self.block_ids[: self.num_blocks].tolist()
        self.block_ids = np.empty(0, dtype=np.int32)
        self.slot_started = False
        self.num_blocks = self.num_computed = self.num_registered_blocks = self.num_images_done = 0
        return taken


def _whole_ranges(request: Request) -> tuple[range, ...]:
    if request.is_prefix_masked:
        return (range(request.num_prompt_tokens),)
    return tuple(range(span.start, span.stop) for span in request.images if span.sees_forward)

"""What steps hold of the running requests, kept by slot from step to step, so that decode rows are gathered at once.

Letters: D decode rows, B blocks a row, W words of a sample.
"""

import numpy as np

from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.sampling_words import NUM_WORDS, sampling_words
from aphrodite.domain.scheduling.step import DecodeRows

_NONE_SUPPRESSED = np.empty((0, 2), dtype=np.int32)


class SlotTable:
    """Written when a request takes or leaves a slot and when it gets a block: seldom, beside the steps it runs."""

    def __init__(self, num_slots: int, num_blocks: int, block_size: int) -> None:
        self._block_size = block_size
        self._blocks = np.zeros((num_slots, num_blocks), dtype=np.int32)  # 0 behind a request's last block
        self._sampling = np.zeros((num_slots, NUM_WORDS), dtype=np.int32)
        self._rope_offsets = np.zeros(num_slots, dtype=np.int32)
        self._may_end = np.zeros(num_slots, dtype=np.int32)  # length from which min_tokens is reached
        self._may_not_end: set[int] = set()  # slots where there is one
        self._requests: list[Request] = []  # of the last decode rows
        self._rows = DecodeRows.of([])

    def take(self, request: Request) -> None:
        """A request begins to run in its slot."""
        self._sampling[request.slot] = sampling_words(request.sampling, request.seed)
        self._rope_offsets[request.slot] = request.rope_offset
        self._may_end[request.slot] = request.num_prompt_tokens + request.sampling.min_tokens
        if request.sampling.min_tokens:
            self._may_not_end.add(request.slot)

    def append_blocks(self, request: Request, block_ids: list[int]) -> None:
        """Those that the request was given last."""
        self._blocks[request.slot, request.num_blocks - len(block_ids) : request.num_blocks] = block_ids

    def leave(self, slot: int) -> None:
        """Its request runs no more."""
        self._blocks[slot] = 0
        self._may_not_end.discard(slot)

    def decode_rows(self, requests: list[Request]) -> DecodeRows:
        """The rows of requests whose next token is booked as computed already."""
        if requests == self._requests:  # each is one token further, and nothing else of it has changed
            starts = self._rows.starts + 1
            slots, rope_offsets, sampling = self._rows.slots, self._rows.rope_offsets, self._rows.sampling
        else:
            starts = np.array([request.num_computed for request in requests], dtype=np.int32) - 1
            slots = np.array([request.slot for request in requests], dtype=np.int32)
            rope_offsets, sampling = self._rope_offsets.take(slots), self._sampling.take(slots, axis=0)
        num_blocks = int(starts.max(initial=-1)) // self._block_size + 1
        suppressed = _NONE_SUPPRESSED
        if self._may_not_end:
            early = np.flatnonzero(starts + 1 < self._may_end[slots]).tolist()
            pairs = [(row, token_id) for row in early for token_id in requests[row].suppressed_token_ids]
            suppressed = np.array(pairs, dtype=np.int32).reshape(-1, 2)
        block_table = self._blocks[:, :num_blocks].take(slots, axis=0)
        self._requests, self._rows = (
            requests,
            DecodeRows(slots, starts, rope_offsets, block_table, sampling, suppressed),
        )
        return self._rows

"""The deltas of one request, between the one who receives them and the one who takes them."""

import asyncio

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.delta import SequenceDelta

_MAX_UNTAKEN = 1 << 16  # some 10 MB


class RequestStream:
    """What has come for one request and was not taken yet."""

    def __init__(self, num_sequences: int) -> None:
        self.unfinished = set(range(num_sequences))  # indices of the sequences that the engine works on
        self._deltas: list[SequenceDelta] = []
        self._num_untaken = 0  # tokens and log-probabilities in them
        self._error: AphroditeError | None = None
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and nothing is left to take."""
        return not (self.unfinished or self._deltas or self._error)

    async def take(self) -> list[SequenceDelta]:
        """Wait for news. Raises the error that the request failed with, once all before it was taken."""
        await self._news.wait()
        self._news.clear()
        if not self._deltas and self._error is not None:
            raise self._error
        deltas, self._deltas, self._num_untaken = self._deltas, [], 0
        if self._error is not None:
            self._news.set()
        return deltas

    @property
    def is_overfull(self) -> bool:
        """Whether more lies here than is worth keeping for a reader so slow."""
        return self._num_untaken > _MAX_UNTAKEN

    def push(self, delta: SequenceDelta) -> None:
        if delta.index in self.unfinished:
            self._deltas.append(delta)
            self._num_untaken += len(delta.token_ids)
            if delta.report is not None and delta.report.token is not None:
                self._num_untaken += len(delta.report.token)
            if delta.finish_reason is not None or delta.error is not None:
                self.unfinished.discard(delta.index)
            self._news.set()

    def drop(self, index: int) -> None:
        """Sequence `index` was aborted; what was not taken yet can still be."""
        self.unfinished.discard(index)
        self._news.set()

    def fail(self, error: AphroditeError) -> None:
        """Nothing more will come, and this is why."""
        if self.unfinished:
            self.unfinished.clear()
            self._error = error
            self._news.set()

"""The deltas of requests that are answered together, between the one who receives them and the one who takes them."""

import asyncio
from collections.abc import Sequence

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.engine.engine import EngineRequest

_MAX_UNTAKEN = 1 << 16  # some 10 MB
_MAX_TAKEN = 256  # before others have their turn; who takes them works on each


class RequestStream:
    """What has come for some requests and was not taken yet."""

    def __init__(self, requests: Sequence[EngineRequest]) -> None:
        self.request_ids = [request.request_id for request in requests]
        # (request, index) of the sequences that the engine works on
        self.unfinished = {(request.request_id, index) for request in requests for index in range(request.sampling.n)}
        self._deltas: list[SequenceDelta] = []
        self._num_untaken = 0  # tokens and log-probabilities in them
        self._error: AphroditeError | None = None
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and nothing is left to take."""
        return not (self.unfinished or self._deltas or self._error)

    @property
    def is_overfull(self) -> bool:
        """Whether more lies here than is worth keeping for a reader so slow."""
        return self._num_untaken > _MAX_UNTAKEN

    async def take(self) -> list[SequenceDelta]:
        """Wait for news. Raises the error that the requests failed with, once all before it was taken."""
        if self._deltas:
            await asyncio.sleep(0)
        await self._news.wait()
        if not self._deltas and self._error is not None:
            raise self._error
        taken, self._deltas = self._deltas[:_MAX_TAKEN], self._deltas[_MAX_TAKEN:]
        self._num_untaken -= sum(map(_weight, taken))
        if not self._deltas and self._error is None:
            self._news.clear()
        return taken

    def push(self, delta: SequenceDelta) -> None:
        if (delta.request_id, delta.index) in self.unfinished:
            self._deltas.append(delta)
            self._num_untaken += _weight(delta)
            if delta.finish_reason is not None or delta.error is not None:
                self.unfinished.discard((delta.request_id, delta.index))
            self._news.set()

    def drop(self, request_id: str, index: int) -> None:
        """A sequence was aborted; what was not taken yet can still be."""
        self.unfinished.discard((request_id, index))
        self._news.set()

    def fail(self, error: AphroditeError) -> None:
        """Nothing more will come, and this is why."""
        if self.unfinished:
            self.unfinished.clear()
            self._error = error
            self._news.set()


def _weight(delta: SequenceDelta) -> int:
    """Tokens and log-probabilities."""
    num_logprobs = len(delta.report.token) if delta.report is not None and delta.report.token is not None else 0
    return len(delta.token_ids) + num_logprobs

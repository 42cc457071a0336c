"""How much waits for the engine, and whether more may."""

from collections.abc import Sequence
from dataclasses import dataclass

from aphrodite.domain.errors import QueueFullError
from aphrodite.domain.scheduling.request import Owner
from aphrodite.engine.engine import EngineRequest

_TOKENS_PER_PLACE = 8192


def _num_places(request: EngineRequest) -> int:
    """What the completions of a prompt take."""
    return request.sampling.n + len(request.prompt_token_ids) // _TOKENS_PER_PLACE


@dataclass(slots=True)
class _Entry:
    owner: Owner
    waiting: set[int]  # indices of the sequences that nothing came for yet
    weight: int


class Queue:
    """Requests of which sequences have had no first delta. A sequence takes a place, a very long prompt several.

    When all places are taken an owner may still have an equal share of them: so neither a client with many requests nor
    a request with many sequences keeps others out, and what waits in all stays within a small multiple.
    """

    def __init__(self, num_places: int) -> None:
        self._num_places = num_places
        self._entries: dict[str, _Entry] = {}
        self._clients: dict[str, dict[str, int]] = {}  # client -> its requests -> places taken
        self._num_taken = 0

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    def check(self, requests: Sequence[EngineRequest]) -> None:
        """Raises QueueFullError where their owner, who is one, cannot have all of them wait."""
        weight = sum(map(_num_places, requests))
        is_full = self._num_taken > 0 and self._num_taken + weight > self._num_places
        if is_full and not self._has_share(requests[0].owner, weight):
            raise QueueFullError(f"{self._num_taken} sequences wait already; try again later.")

    def add(self, requests: Sequence[EngineRequest]) -> None:
        """All or none. Raises as `check` does."""
        self.check(requests)
        for request in requests:
            weight = _num_places(request)
            self._entries[request.request_id] = _Entry(request.owner, set(range(request.sampling.n)), weight)
            self._change(request.owner, weight)

    def start(self, request_id: str, index: int) -> None:
        """Something came for a sequence of a request that is in the queue."""
        entry = self._entries[request_id]
        if index in entry.waiting:
            entry.waiting.remove(index)
            if entry.waiting:
                entry.weight -= 1
                self._change(entry.owner, -1)
            else:
                self.remove(request_id)

    def remove(self, request_id: str) -> None:
        """The request waits no more, if it did."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            self._change(entry.owner, -entry.weight)

    def _has_share(self, owner: Owner, weight: int) -> bool:
        requests = self._clients.get(owner.client, {})
        num_clients = len(self._clients.keys() | {owner.client})
        num_requests = len(requests.keys() | {owner.request})
        taken = requests.get(owner.request, 0) + weight
        return taken * num_clients * num_requests <= self._num_places

    def _change(self, owner: Owner, change: int) -> None:
        self._num_taken += change
        requests = self._clients.setdefault(owner.client, {})
        requests[owner.request] = requests.get(owner.request, 0) + change
        if not requests[owner.request]:
            del requests[owner.request]
        if not requests:
            del self._clients[owner.client]

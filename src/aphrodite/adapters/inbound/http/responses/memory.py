"""Answers that can be asked for later, and continued: in memory, as JSON, for as long as there is room."""

from collections import OrderedDict
from dataclasses import dataclass, replace

MAX_BYTES = 128 << 20  # of all clients
_OVERHEAD_BYTES = 1024  # of one answer, whatever it says


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One answer: what was said to get it, and itself, both as JSON."""

    response_id: str
    previous_id: str | None
    items: bytes  # a list of input items
    response: bytes  # the whole response

    @property
    def num_bytes(self) -> int:
        return len(self.items) + len(self.response) + _OVERHEAD_BYTES


class ResponseMemory:
    """Nobody finds another's answers. Where there is no room, the client that keeps the most loses what it did not use
    for the longest time, so that who keeps little loses nothing to who keeps much.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes: dict[str, int] = {}  # by client
        self._of: dict[str, OrderedDict[str, StoredResponse]] = {}  # by client and id, the longest unused first

    def add(self, client_name: str, stored: StoredResponse) -> None:
        """Keep an answer."""
        self.remove(client_name, stored.response_id)
        self._of.setdefault(client_name, OrderedDict())[stored.response_id] = stored
        self._num_bytes[client_name] = self._num_bytes.get(client_name, 0) + stored.num_bytes
        while sum(self._num_bytes.values()) > self._max_bytes:
            largest = max(self._num_bytes, key=lambda name: self._num_bytes[name])
            self.remove(largest, next(iter(self._of[largest])))

    def update(self, client_name: str, response_id: str, response: bytes) -> None:
        """An answer as it is now, if it is still kept."""
        stored = self.find(client_name, response_id)
        if stored is not None:
            self.add(client_name, replace(stored, response=response))

    def find(self, client_name: str, response_id: str) -> StoredResponse | None:
        """An answer of that client."""
        kept = self._of.get(client_name)
        return None if kept is None else kept.get(response_id)

    def thread(self, client_name: str, response_id: str) -> list[StoredResponse] | None:
        """An answer behind those that it continues, the first in front; None where one of them is not there."""
        found: list[StoredResponse] = []
        wanted: str | None = response_id
        while wanted is not None:
            stored = self.find(client_name, wanted)
            if stored is None:
                return None
            found.append(stored)
            wanted = stored.previous_id
        for stored in found:  # the first answer of a thread is the last that is dropped
            self._of[client_name].move_to_end(stored.response_id)
        return found[::-1]

    def remove(self, client_name: str, response_id: str) -> bool:
        """Forget an answer; False where there is none."""
        kept = self._of.get(client_name, OrderedDict())
        stored = kept.pop(response_id, None)
        if stored is None:
            return False
        self._num_bytes[client_name] -= stored.num_bytes
        if not kept:
            del self._of[client_name], self._num_bytes[client_name]
        return True

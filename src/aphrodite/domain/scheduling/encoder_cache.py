"""Which pictures' features the device holds: counted by content, bounded in bytes."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    num_bytes: int
    users: set[str] = field(default_factory=set)  # request ids that still need the features


class EncoderCache:
    """Books the features on the device; the backend follows what the plans say.

    Features that no request needs stay until room is wanted, the longest unused going first. No call searches through
    them: there may be many thousands.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.num_encoded = 0  # pictures ever encoded
        self._entries: dict[bytes, _Entry] = {}
        self._unused: OrderedDict[bytes, None] = OrderedDict()  # entries without users, the longest unused first
        self._needed_bytes = 0  # of entries with users

    def __contains__(self, content_hash: bytes) -> bool:
        return content_hash in self._entries

    def use(self, content_hash: bytes, request_id: str) -> None:
        """Keep features that are here until `request_id` lets them go."""
        entry = self._entries[content_hash]
        if not entry.users:
            del self._unused[content_hash]
            self._needed_bytes += entry.num_bytes
        entry.users.add(request_id)

    def can_hold(self, num_bytes: int) -> bool:
        """Whether `num_bytes` fit once the features that no request needs are forgotten."""
        return self._needed_bytes + num_bytes <= self.capacity_bytes

    def make_room(self, num_bytes: int) -> list[bytes]:
        """Forget unused features, the longest unused first, until `num_bytes` fit. Returns what was forgotten."""
        forgotten = []
        while self._unused and self.used_bytes + num_bytes > self.capacity_bytes:
            forgotten.append(next(iter(self._unused)))
            self.discard(forgotten[-1])
        return forgotten

    def add(self, content_hash: bytes, num_bytes: int) -> None:
        """Book features that the next step encodes."""
        self._entries[content_hash] = _Entry(num_bytes)
        self._unused[content_hash] = None
        self.used_bytes += num_bytes
        self.num_encoded += 1

    def release(self, content_hash: bytes, request_id: str) -> None:
        """`request_id` needs the features no more."""
        entry = self._entries.get(content_hash)
        if entry is not None and request_id in entry.users:
            entry.users.remove(request_id)
            if not entry.users:
                self._unused[content_hash] = None
                self._needed_bytes -= entry.num_bytes

    def discard(self, content_hash: bytes) -> None:
        """Strike out features, when they were forgotten or their step failed."""
        entry = self._entries.pop(content_hash, None)
        if entry is not None:
            self.used_bytes -= entry.num_bytes
            if entry.users:
                self._needed_bytes -= entry.num_bytes
            else:
                del self._unused[content_hash]

    def clear(self) -> None:
        """Strike out everything; the features are gone."""
        self._entries.clear()
        self._unused.clear()
        self.used_bytes = self._needed_bytes = 0

"""Which images' features the device holds, and in which rows of its one feature array."""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

User = tuple[str, int]
"""A request's id, and which of its images."""


@dataclass(slots=True)
class _Entry:
    rows: np.ndarray  # int32 [features]
    users: set[User] = field(default_factory=set)  # who still needs the features


class EncoderCache:
    """Hands out the rows of the device's feature array, by content: an image is encoded once for all who show it.

    Features that no request needs stay until room is wanted, the longest unused going first. No call searches through
    them: there may be many thousands.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.num_encoded = 0  # images ever encoded
        self._free = np.arange(num_rows, dtype=np.int32)  # [num_rows] a stack, of which the first _num_free are free
        self._num_free = num_rows
        self._entries: dict[bytes, _Entry] = {}
        self._unused: OrderedDict[bytes, None] = OrderedDict()  # entries without users, the longest unused first
        self._num_needed = 0  # rows of entries with users

    @property
    def num_used(self) -> int:
        return self.num_rows - self._num_free

    def __contains__(self, content_hash: bytes) -> bool:
        return content_hash in self._entries

    def num_to_claim(self, content_hash: bytes, num_features: int) -> int:
        """Rows that an image's first user takes from what may be forgotten; 0 where it has users already."""
        entry = self._entries.get(content_hash)
        return 0 if entry is not None and entry.users else num_features

    def can_hold(self, num_rows: int) -> bool:
        """Whether so many rows can be claimed once the features that no request needs are forgotten."""
        return self._num_needed + num_rows <= self.num_rows

    def rows(self, content_hash: bytes) -> np.ndarray:
        """int32 [features]: where the features of an image that is here lie."""
        return self._entries[content_hash].rows

    def use(self, content_hash: bytes, user: User) -> None:
        """Keep features that are here until `user` lets them go."""
        entry = self._entries[content_hash]
        if not entry.users:
            del self._unused[content_hash]
            self._num_needed += len(entry.rows)
        entry.users.add(user)

    def add(self, content_hash: bytes, num_features: int) -> None:
        """Take rows for features that the next step encodes, forgetting unused ones; the caller asked `can_hold`."""
        while self._num_free < num_features:
            self.discard(next(iter(self._unused)))
        self._num_free -= num_features
        self._entries[content_hash] = _Entry(self._free[self._num_free : self._num_free + num_features].copy())
        self._unused[content_hash] = None
        self.num_encoded += 1

    def release(self, content_hash: bytes, user: User) -> None:
        """`user` needs the features no more."""
        entry = self._entries.get(content_hash)
        if entry is not None and user in entry.users:
            entry.users.remove(user)
            if not entry.users:
                self._unused[content_hash] = None
                self._num_needed -= len(entry.rows)

    def discard(self, content_hash: bytes) -> None:
        """Strike out features, when their room is wanted or their step failed."""
        entry = self._entries.pop(content_hash, None)
        if entry is not None:
            self._free[self._num_free : self._num_free + len(entry.rows)] = entry.rows
            self._num_free += len(entry.rows)
            if entry.users:
                self._num_needed -= len(entry.rows)
            else:
                del self._unused[content_hash]

    def clear(self) -> None:
        """Strike out everything; the features are gone."""
        for content_hash in list(self._entries):
            self.discard(content_hash)

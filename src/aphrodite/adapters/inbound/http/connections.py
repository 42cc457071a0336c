"""All open connections: how many there may be, and how much of their answers may lie unread."""

import logging
import time
from collections import defaultdict
from ipaddress import IPv6Address, ip_address
from typing import Protocol

_logger = logging.getLogger(__name__)

_MAX_UNREAD_BYTES = 128 * 1024 * 1024  # of answers, of all connections together
_LOG_EVERY_S = 10.0


class Client(Protocol):
    """One connection, as others see it."""

    @property
    def address(self) -> str:
        """Where it comes from."""

    @property
    def owes_since_s(self) -> float | None:
        """Since when we wait for a request of it, or for the rest of one; None while we work for it."""

    @property
    def num_unread_bytes(self) -> int:
        """Of answers, in the memory of this process."""

    def end(self) -> None:
        """Close at once."""


class Connections:
    """Admits connections, at most `max_open` in all and `max_per_address` from one address.

    Where there is no room, the one that has owed us a request for longest makes it. So those who connect and say
    nothing keep nobody out.
    """

    def __init__(self, max_open: int, max_per_address: int) -> None:
        self._max_open = max_open
        self._max_per_address = max_per_address
        self._open: set[Client] = set()
        self._by_address: defaultdict[bytes, set[Client]] = defaultdict(set)
        self._unread: dict[Client, None] = {}  # those whose answers are not read, the longest so first
        self._num_turned_away = 0
        self._next_log_s = 0.0

    def admit(self, client: Client) -> bool:
        """Whether the new connection may stay."""
        neighbours = self._by_address[_network(client.address)]
        if len(neighbours) >= self._max_per_address:
            made_room = _end_longest_owing(neighbours)
            self._say(f"{len(neighbours)} connections come from {client.address}", "--max-connections-per-address")
        elif len(self._open) >= self._max_open:
            made_room = _end_longest_owing(self._open)
            self._say(f"{len(self._open)} connections are open", "--max-connections")
        else:
            made_room = True
        if made_room:
            self._open.add(client)
            neighbours.add(client)
        return made_room

    def forget(self, client: Client) -> None:
        """It is closed."""
        self._open.discard(client)
        self._unread.pop(client, None)
        network = _network(client.address)
        self._by_address[network].discard(client)
        if not self._by_address[network]:
            del self._by_address[network]

    def note_unread(self, client: Client) -> None:
        """It does not read as fast as it is written to. Where that is too much in all, the longest such is ended."""
        self._unread.setdefault(client)
        while len(self._unread) > 1 and sum(each.num_unread_bytes for each in self._unread) > _MAX_UNREAD_BYTES:
            slowest = next(iter(self._unread))
            del self._unread[slowest]
            slowest.end()
            _logger.warning("A connection was ended: its answer was not read, and memory was needed for others.")

    def note_read(self, client: Client) -> None:
        """It has read nearly all of what was written to it."""
        self._unread.pop(client, None)

    def _say(self, what: str, flag: str) -> None:
        self._num_turned_away += 1
        now_s = time.monotonic()
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_EVERY_S
            _logger.warning(
                "%s, as many as %s allows; so far %d had to give way to others.", what, flag, self._num_turned_away
            )


def _end_longest_owing(clients: set[Client]) -> bool:
    """Ends one that owes a request; False where none does."""
    owing = [(since_s, client) for client in clients if (since_s := client.owes_since_s) is not None]
    if not owing:
        return False
    _, longest = min(owing, key=lambda pair: pair[0])
    longest.end()
    return True


def _network(address: str) -> bytes:
    """What counts as one address: an IPv4 address, or the network of 64 bits that an IPv6 user has for himself."""
    if not address:
        return b""  # a Unix socket
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped.packed if parsed.ipv4_mapped else parsed.packed[:8]
    return parsed.packed

"""Whose sequence is admitted next: owners take turns, however much each has waiting."""

import heapq
from dataclasses import dataclass, field

from aphrodite.domain.scheduling.request import NOBODY, Owner, Request


@dataclass(frozen=True, slots=True)
class Holder:
    """Of whom two sequences or more run: a request, or a client with one of each of several requests."""

    client: str
    request: str | None

    def has(self, request: Request) -> bool:
        return request.owner.client == self.client and self.request in (None, request.owner.request)


@dataclass(slots=True, eq=False)
class _Party:
    """Everybody together, a client, or one request of a client with its waiting sequences."""

    name: str
    parent: "_Party | None" = None
    num_running: int = 0
    num_rich: int = 0  # members of whom two or more run
    last_turn: int = 0
    priority: int = 0  # of a request; clients have none
    members: dict[str, "_Party"] = field(default_factory=dict)
    # A heap of members, as `place` has them; outdated entries fall out.
    line: list[tuple[int, int, int, str]] = field(default_factory=list)
    waiting: list[tuple[tuple[int, int, int], Request]] = field(default_factory=list)  # a heap by priority and arrival
    num_put_off: int = 0
    is_aside: bool = False

    @property
    def place(self) -> tuple[int, int, int, str]:
        """In the line of its parent."""
        return self.priority, self.num_running, self.last_turn, self.name

    def first_member(self) -> "_Party | None":
        while self.line:
            member = self.members.get(self.line[0][-1])
            if member is not None and member.place == self.line[0]:
                if member.waiting and not member.is_aside:
                    return member
                if member.first_member() is not None:
                    return member
            heapq.heappop(self.line)
        return None

    def line_up(self, member: "_Party") -> None:
        heapq.heappush(self.line, member.place)
        if len(self.line) > 2 * len(self.members) + 64:
            self.line = [other.place for other in self.members.values()]
            heapq.heapify(self.line)


class Turns:
    """The waiting sequences, by client and by request.

    The client of whom the fewest sequences run is first, and of its requests those of the lowest priority, and of them
    the one of which the fewest run; of equal ones that whose last turn was the longest ago. A request's sequences come
    by priority and in the order of their arrival. With a single owner, as offline, that is first come, first served.

    Nothing here looks through all that wait.
    """

    def __init__(self) -> None:
        self._everybody = _Party("")
        self._num_turns = 0
        self._put_off: list[Request] = []
        self._aside: list[_Party] = []

    def add(self, request: Request) -> None:
        """`request` waits, for the first time or again."""
        party = self._party(request.owner)
        party.priority = request.priority
        heapq.heappush(party.waiting, ((request.priority, *request.order), request))
        self._line_up(party)

    @property
    def is_shared(self) -> bool:
        """Whether there are several owners."""
        clients = self._everybody.members
        return len(clients) > 1 or any(len(client.members) > 1 for client in clients.values())

    @property
    def only_nobody(self) -> bool:
        """Whether all is of the one who is alone for good."""
        return self._everybody.members.keys() <= {NOBODY.client}

    def first_owner(self) -> Owner | None:
        """Whose turn it is; all that waits of it may have ended meanwhile."""
        client = self._everybody.first_member()
        request = client.first_member() if client is not None else None
        return Owner(client.name, request.name) if client is not None and request is not None else None

    def first(self) -> Request | None:
        """The sequence whose turn it is."""
        while (owner := self.first_owner()) is not None:
            party = self._party(owner)
            if not party.waiting[0][1].finished:
                return party.waiting[0][1]
            heapq.heappop(party.waiting)
            self._forget_if_gone(party)
        return None

    def start(self, request: Request) -> None:
        """`request`, the first, runs."""
        party: _Party | None = self._party(request.owner)
        assert party is not None
        heapq.heappop(party.waiting)
        self._num_turns += 1
        self._count(party, 1, self._num_turns)

    def stop(self, request: Request) -> None:
        """`request` runs no more."""
        self._count(self._party(request.owner), -1)

    def put_off(self, request: Request) -> None:
        """Pass over `request`, the first, until `restore`."""
        party = self._party(request.owner)
        self._put_off.append(heapq.heappop(party.waiting)[1])
        party.num_put_off += 1

    def set_aside(self, owner: Owner) -> None:
        """Pass over all that `owner` has waiting until `restore`."""
        party = self._party(owner)
        party.is_aside = True
        self._aside.append(party)

    def restore(self) -> None:
        """Who was passed over is in line again."""
        aside, self._aside = self._aside, []
        for party in aside:
            party.is_aside = False
            self._line_up(party)
        put_off, self._put_off = self._put_off, []
        for request in put_off:
            self._party(request.owner).num_put_off = 0
            self.add(request)

    @property
    def num_passed_over(self) -> int:
        """Sequences that were put off since `restore`."""
        return len(self._put_off)

    def num_put_off(self, owner: Owner) -> int:
        return self._party(owner).num_put_off

    def num_running(self, owner: Owner) -> int:
        return self._party(owner).num_running

    def richest(self) -> Holder | None:
        """Who gives when there is too little for all; None where nobody has two."""
        return self._holder(max(self._everybody.members.values(), key=_num_running))

    def giver(self, owner: Owner) -> Holder | None:
        """Who has so much more than `owner`, of whom nothing runs, that it must give it one; None for nobody."""
        party = self._party(owner)
        client = party.parent
        assert client is not None
        if party.num_running:
            return None
        richest = max(self._everybody.members.values(), key=_num_running)
        if richest.num_running >= client.num_running + 2:
            return self._holder(richest)
        return self._holder(client) if client.num_rich else None

    def _holder(self, client: _Party) -> Holder | None:
        if client.num_running < 2:
            return None
        if not client.num_rich:
            return Holder(client.name, None)
        return Holder(client.name, max(client.members.values(), key=_num_running).name)

    def _party(self, owner: Owner) -> _Party:
        party = self._everybody
        for name in owner:
            if name not in party.members:
                party.members[name] = _Party(name, party, last_turn=self._num_turns)
            party = party.members[name]
        return party

    def _count(self, party: _Party, change: int, turn: int | None = None) -> None:
        each: _Party | None = party
        while each is not None:
            was_rich = each.num_running >= 2
            each.num_running += change
            if each.parent is not None:
                each.parent.num_rich += (each.num_running >= 2) - was_rich
            each.last_turn = each.last_turn if turn is None else turn
            each = each.parent
        self._line_up(party)
        self._forget_if_gone(party)

    def _line_up(self, party: _Party) -> None:
        while party.parent is not None:
            party.parent.line_up(party)
            party = party.parent

    def _forget_if_gone(self, party: _Party) -> None:
        while party.parent is not None and not (
            party.num_running or party.waiting or party.members or party.num_put_off
        ):
            del party.parent.members[party.name]
            party = party.parent


def _num_running(party: _Party) -> int:
    return party.num_running

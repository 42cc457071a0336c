"""A shared amount of something, taken in turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Share:
    """What one of those who came has of a budget."""

    def __init__(self, budget: "Budget", amount: int) -> None:
        self._budget = budget
        self.amount = amount

    def keep(self, amount: int) -> None:
        """Give back what is beyond `amount`."""
        given_back = max(0, self.amount - amount)
        self.amount -= given_back
        self._budget._give_back(given_back)


class Budget:
    """So much of something for all who come, first come first served. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, amount: int) -> AsyncIterator[Share]:
        """Wait for `amount` and have it for as long as the block takes; more than there is in all counts as all."""
        share = Share(self, min(amount, self._total))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share.amount, turn))
        self._serve()
        try:
            await turn
            yield share
        finally:
            if turn.cancelled():
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._serve()
            else:
                share.keep(0)

    def _give_back(self, amount: int) -> None:
        self._taken -= amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._total:
            amount, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._taken += amount
                turn.set_result(None)

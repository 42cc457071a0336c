"""A shared amount of something, taken in turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """So much of something for all who come, first come first served. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, amount: int) -> AsyncIterator[None]:
        """Wait for `amount` and have it for as long as the block takes; more than there is in all counts as all."""
        amount = min(amount, self._total)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
            else:
                self._taken -= amount
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._total:
            amount, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._taken += amount
                turn.set_result(None)

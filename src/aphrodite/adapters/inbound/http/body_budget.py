"""Memory for the bodies of all requests together."""

import asyncio
from types import TracebackType

_PATIENCE_S = 10.0  # with a body that is not there yet, while another waits for its memory


class BodyLease:
    """What one body has of the budget, from its arrival until it is no longer needed."""

    def __init__(self, budget: "BodyBudget") -> None:
        self._budget = budget
        self._num_bytes = 0

    async def take(self, num_bytes: int, arrival: asyncio.Timeout) -> None:
        """Wait for memory; `arrival` is the time that the body has, which may be cut short for another's sake."""
        await self._budget._take(self, num_bytes, arrival)
        self._num_bytes = num_bytes

    def note_arrival(self) -> None:
        """The body is there; from now on it is our work that it waits for."""
        self._budget._arriving.pop(self, None)

    def release(self) -> None:
        """It is no longer needed. May be called again."""
        self.note_arrival()
        self._budget._give_back(self._num_bytes)
        self._num_bytes = 0

    def __enter__(self) -> "BodyLease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class BodyBudget:
    """At most `num_bytes` of bodies at once; who comes later waits, unread, in the order of coming.

    A body that takes long to arrive gives way when another waits for its memory.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_free = num_bytes
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._arriving: dict[BodyLease, tuple[float, asyncio.Timeout]] = {}  # since when, the longest first

    def lease(self) -> BodyLease:
        """For one request; nothing is taken yet."""
        return BodyLease(self)

    async def _take(self, lease: BodyLease, num_bytes: int, arrival: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            while self._num_free < num_bytes:
                self._freed.clear()
                first = next(iter(self._arriving.values()), None)
                patience = asyncio.timeout_at(None if first is None else first[0] + _PATIENCE_S)
                try:
                    async with patience:
                        await self._freed.wait()
                except TimeoutError:
                    if first is None or not patience.expired():
                        raise
                    self._arriving.pop(next(iter(self._arriving)))
                    first[1].reschedule(loop.time())
                    await self._freed.wait()
            self._num_free -= num_bytes
            self._arriving[lease] = (loop.time(), arrival)

    def _give_back(self, num_bytes: int) -> None:
        self._num_free += num_bytes
        self._freed.set()

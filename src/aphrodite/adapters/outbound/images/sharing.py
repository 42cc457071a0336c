"""Equal work at the same time is done once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Run(Generic[T]):
    def __init__(self, task: "asyncio.Task[T]") -> None:
        self.task = task
        self.num_waiters = 0


class SharedRuns(Generic[T]):
    """Runs coroutines under a key; whoever asks for a key that is running waits for that run.

    A run goes on while anyone waits for it: a waiter that is cancelled leaves alone, the last one takes the run along.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Run[T]] = {}

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result, or the error, of the run under `key`; `work` is called where there is none."""
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run(asyncio.ensure_future(_awaited(work)))
            run.task.add_done_callback(lambda _: self._forget(key, run))
        run.num_waiters += 1
        try:
            return await asyncio.shield(run.task)
        finally:
            run.num_waiters -= 1
            if run.num_waiters == 0 and not run.task.done():
                self._forget(key, run)  # now, not when it has ended: a newcomer must not join a run that is dying
                run.task.cancel()

    def __len__(self) -> int:
        return len(self._runs)

    def _forget(self, key: str, run: _Run[T]) -> None:
        if self._runs.get(key) is run:
            del self._runs[key]


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()

"""Requests that are being answered, for those who ask how far they are, or end them."""

from collections.abc import Callable
from weakref import WeakSet


class Running:
    """One of them: what it has said by now, and whether it is to end."""

    def __init__(self, client_name: str, name: str | None) -> None:
        self.client_name = client_name
        self.name = name
        self.is_stopped = False
        self.pieces: list[str] = []  # of the text
        self._stop: Callable[[], None] | None = None

    def begin(self, stop: Callable[[], None]) -> None:
        """From now on `stop` ends it."""
        self._stop = stop
        if self.is_stopped:
            stop()

    def stop(self) -> None:
        """What was said until now is the answer; also where nothing was said yet."""
        self.is_stopped = True
        if self._stop is not None:
            self._stop()


class RunningRequests:
    """All of them, each for as long as who answers it holds it. Nobody finds another client's."""

    def __init__(self) -> None:
        self._running: WeakSet[Running] = WeakSet()

    def add(self, client_name: str, name: str | None) -> Running:
        """One that is being prepared."""
        running = Running(client_name, name)
        self._running.add(running)
        return running

    def find(self, client_name: str, name: str | None) -> list[Running]:
        """A client's of that name, or all of its without one."""
        return [
            running
            for running in self._running
            if running.client_name == client_name and (not name or running.name == name)
        ]

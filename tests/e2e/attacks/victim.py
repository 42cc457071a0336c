"""The others, in a process of their own: someone who asks a small text question, the health check, the memory's book.

    python -m tests.e2e.attacks.victim URL PID [HEADER: VALUE ...]

says "watching" once each question was answered, asks on until stdin closes, then once more, and prints `Seen` as JSON.
It comes from an address of its own (127.0.0.2), as another user does, with a new connection for each request.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from tests.e2e.attacks.process_tree import machine_cpu_s, tree_bytes, tree_cpu_s

ADDRESS = "127.0.0.2"
_PATIENCE_S = 60.0  # a request that takes longer has no answer
_PAUSE_S = 0.05
_QUESTION = {"model": "demo", "prompt": "USER: Hello\nASSISTANT:", "max_tokens": 4, "temperature": 0}


@dataclass
class Seen:
    """What happened to the others while they were watching."""

    health_s: list[tuple[float, float]] = field(default_factory=list)  # as Wait has them
    text_s: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # answers other than 200
    first_bytes: int = 0  # of memory, all processes of the server together
    most_bytes: int = 0


class Wait:
    """How long something took, and how long it would have taken had the machine been the server's alone."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._started_s, self._machine_s, self._server_s = self._now()

    def end(self) -> tuple[float, float]:
        """Seconds by the clock; and less the share of each processor that others had in them, which is no less than
        what the busiest of the server's processes computed.
        """
        ended_s, machine_s, server_s = self._now()
        duration_s = ended_s - self._started_s
        of_each_s = [busy_s - self._server_s.get(pid, 0.0) for pid, busy_s in server_s.items()]
        others_s = max(0.0, machine_s - self._machine_s - sum(of_each_s))
        undisturbed_s = max(duration_s - others_s / (os.cpu_count() or 1), *of_each_s)
        return duration_s, min(duration_s, undisturbed_s)

    def _now(self) -> tuple[float, float, dict[int, float]]:
        return time.monotonic(), machine_cpu_s(), tree_cpu_s(self._server_pid)


class Victim:
    """Asks in two threads, and weighs in a third."""

    def __init__(self, url: str, server_pid: int, headers: dict[str, str]) -> None:
        address = urlsplit(url)
        self._place = (address.hostname or "", address.port or 0)
        self._server_pid, self._headers = server_pid, headers
        self._ends = threading.Event()
        self.seen = Seen()

    def ask_all(self) -> None:
        self.ask_health()
        self.ask_text()

    def ask_health(self) -> None:
        self._ask("GET", "/health", self.seen.health_s)

    def ask_text(self) -> None:
        self._ask("POST", "/v1/completions", self.seen.text_s, json.dumps(_QUESTION))

    def weigh(self) -> None:
        weight = tree_bytes(self._server_pid)
        self.seen.first_bytes = self.seen.first_bytes or weight
        self.seen.most_bytes = max(self.seen.most_bytes, weight)

    def watch(self) -> None:
        """Until stdin closes, and once more."""
        threads = [
            threading.Thread(target=self._repeat, args=(act,)) for act in (self.ask_health, self.ask_text, self.weigh)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self._ends.set()
        for thread in threads:
            thread.join()
        self.ask_all()
        self.weigh()

    def _repeat(self, act: Callable[[], None]) -> None:
        while not self._ends.wait(_PAUSE_S):
            act()

    def _ask(self, method: str, path: str, durations_s: list[tuple[float, float]], body: str | None = None) -> None:
        wait = Wait(self._server_pid)
        connection = HTTPConnection(*self._place, timeout=_PATIENCE_S, source_address=(ADDRESS, 0))
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **self._headers})
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                self.seen.failures.append(f"{path}: {response.status} {said[:200]!r}")
        except (OSError, HTTPException) as error:
            self.seen.failures.append(f"{path}: {error!r}")
        finally:
            connection.close()
        durations_s.append(wait.end())


def main() -> None:
    url, pid, *headers = sys.argv[1:]
    victim = Victim(url, int(pid), dict(header.split(": ", 1) for header in headers))
    victim.ask_all()
    victim.weigh()
    print("watching", flush=True)
    victim.watch()
    print(json.dumps(asdict(victim.seen)), flush=True)


if __name__ == "__main__":
    main()

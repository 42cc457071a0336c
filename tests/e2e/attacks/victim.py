"""The others, in a process of their own: someone who asks a small text question, the health check, the memory's book.

    python victim.py URL PID [HEADER: VALUE ...]

says "watching" once each question was answered, asks on until stdin closes, then once more, and prints `Seen` as JSON.
It comes from an address of its own (127.0.0.2), as another user does, with a new connection for each request.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

ADDRESS = "127.0.0.2"
_PATIENCE_S = 60.0  # a request that takes longer has no answer
_PAUSE_S = 0.05
_QUESTION = {"model": "demo", "prompt": "USER: Hello\nASSISTANT:", "max_tokens": 4, "temperature": 0}


@dataclass
class Seen:
    """What happened to the others while they were watching."""

    health_s: list[float] = field(default_factory=list)
    text_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # answers other than 200
    first_bytes: int = 0  # of memory, all processes of the server together
    most_bytes: int = 0


def tree_bytes(root: int) -> int:
    """Memory of a process and all its descendants that no file backs."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has just ended
            continue
    return sum(_bytes_of(pid) for pid in parents if _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (0, root):
        pid = parents.get(pid, 0)
    return pid == root


def _bytes_of(pid: int) -> int:
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0
    return sum(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


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

    def _ask(self, method: str, path: str, durations_s: list[float], body: str | None = None) -> None:
        started_s = time.monotonic()
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
        durations_s.append(time.monotonic() - started_s)


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

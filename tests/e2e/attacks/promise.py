"""The promise that every attack is held to, and what attackers use.

No request of at most 32 MB, and no connection, delays another user's small text request or the health check by more
than two seconds, raises the server's memory by more than 1 GiB in all, or ends a process.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.attacks.victim import Seen
from tests.e2e.server_process import ServerProcess, environment

MAX_DELAY_S = 2.0
MAX_GROWTH_BYTES = 1 << 30
MODEL = "demo"

_ROOT = Path(__file__).parents[3]
_ENGINE_DIED = "It is started again in"


@contextmanager
def promise_kept(server: ServerProcess, attack: str, *, key: str | None = None) -> Iterator[None]:
    """Others use the server, which serves the demo model, while the block attacks it; prints what they saw.

    Raises AssertionError afterwards if they waited, were refused, or the server grew or lost a process. Waiting is
    judged without the time that other processes took, the attackers' among them: the machine may be shared.
    """
    num_deaths = server.log.count(_ENGINE_DIED)
    headers = [] if key is None else [f"Authorization: Bearer {key}"]
    victim = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.attacks.victim", server.url, str(server.process.pid), *headers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=_ROOT,
    )
    assert victim.stdin is not None
    assert victim.stdout is not None
    try:
        assert victim.stdout.readline() == "watching\n"
        yield
        victim.stdin.close()
        seen = Seen(**json.loads(victim.stdout.read()))
    finally:
        if victim.poll() is None:
            victim.kill()
        victim.stdin.close()
        victim.stdout.close()
        victim.wait()
    growth = seen.most_bytes - seen.first_bytes
    print(f"\n{attack}: text {_shown(seen.text_s)}, health {_shown(seen.health_s)} at most; ", end="")
    print(f"memory +{growth / 2**20:.0f} MiB; load {os.getloadavg()[0]:.1f}")
    assert not seen.failures, seen.failures[:5]
    assert max(undisturbed_s for _, undisturbed_s in seen.text_s) <= MAX_DELAY_S
    assert max(undisturbed_s for _, undisturbed_s in seen.health_s) <= MAX_DELAY_S
    assert growth <= MAX_GROWTH_BYTES
    assert server.process.poll() is None, server.log[-2000:]
    assert server.log.count(_ENGINE_DIED) == num_deaths, server.log[-2000:]


def _shown(waits_s: list[tuple[float, float]]) -> str:
    by_clock_s, undisturbed_s = (max(values) for values in zip(*waits_s, strict=True))
    return f"{by_clock_s:.2f} s ({undisturbed_s:.2f} s without what else ran on the machine)"


def connect(server: ServerProcess, *, source: str = "127.0.0.1", timeout_s: float = 30) -> socket.socket:
    """A bare connection; any address of 127.0.0.0/8 can be its source, as if it came from another machine."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=timeout_s, source_address=(source, 0))


def http_post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request as bytes, to be sent over `connect`."""
    lines = (f"POST {path} HTTP/1.1", "Host: attacked", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def send(server: ServerProcess, request: bytes, *, timeout_s: float = 60) -> tuple[int, bytes]:
    """Send bytes and read all that comes back until the server closes or the answer is whole; its status and body."""
    with connect(server, timeout_s=timeout_s) as connection:
        connection.sendall(request)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and body of the next answer; status 0 where there is none."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return 0, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = fields.get(b"content-length")
    while len(body) < int(length) if length else not body.endswith(b"0\r\n\r\n"):
        piece = connection.recv(1 << 20)
        if not piece:
            break
        body += piece
    return status, body


def besiege(server: ServerProcess, requests: Sequence[bytes], within_s: float = 30) -> list[int]:
    """Send all at once and read what comes, until all connections are closed or the time is up; then leave.

    Returns the statuses of the answers that began. Requests should ask for their connection to be closed.
    """
    ends_s = time.monotonic() + within_s
    statuses = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for request in requests:
            connection = stack.enter_context(connect(server))
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ, [])
        while selector.get_map() and (left_s := ends_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                assert isinstance(key.fileobj, socket.socket)
                received = key.fileobj.recv(1 << 20)
                if not key.data and received:
                    key.data.append(int(received.split(b" ", 2)[1]))
                    statuses += key.data
                if not received:
                    selector.unregister(key.fileobj)
    return statuses

"""Clients that connect and do not come to the point."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.attacks.promise import connect, http_post, promise_kept, read_answer, send
from tests.e2e.server_process import SMALL, ServerProcess, running

GET = b"GET /health HTTP/1.1\r\nHost: attacked\r\n"


@pytest.mark.parametrize(
    ("attack", "head", "endless"),
    [
        ("a header without end", GET + b"A: ", b"a"),
        ("headers without end", GET, b"A: b\r\n"),
        ("a path without end", b"GET /", b"a"),
        ("a trailer without end", http_post("/v1/completions", b"")[:-4] + b"\r\nTransfer-Encoding: chunked\r\n", b"a"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_without_end(demo: ServerProcess, attack: str, head: bytes, endless: bytes) -> None:
    with promise_kept(demo, attack), connect(demo) as connection:
        connection.sendall(head)
        try:
            for _ in range(200):
                connection.sendall(endless * (1_000_000 // len(endless)))
        except OSError:
            return  # cut off, as it should be
        assert read_answer(connection)[0] in (400, 431)


def test_hundred_thousand_headers(demo: ServerProcess) -> None:
    with promise_kept(demo, "100,000 headers"):
        for _ in range(5):
            assert send(demo, GET + b"A: b\r\n" * 30_000 + b"\r\n")[0] == 431


def test_requests_without_waiting_for_answers(demo: ServerProcess) -> None:
    with promise_kept(demo, "50 connections with 100,000 requests each, at once"), ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connect(demo))
            connection.setblocking(False)
            try:
                connection.sendall((GET + b"\r\n") * 100_000)
            except OSError:
                continue


@pytest.mark.attack
def test_idle_and_slow_connections(demo: ServerProcess) -> None:
    """More than may be open, from two addresses; the others still come in."""
    with promise_kept(demo, "2,200 idle and slow connections"), ExitStack() as stack:
        opened: list[socket.socket] = []
        for index in range(2200):
            connection = stack.enter_context(connect(demo, source=f"127.0.1.{index % 2 + 1}"))
            connection.sendall((b"", GET, b"GET /h", http_post("/v1/completions", b" " * 100)[:-50])[index % 4])
            opened.append(connection)
        time.sleep(1)
    assert "--max-connections-per-address allows" in demo.log


def test_few_file_descriptors(tmp_path: Path) -> None:
    with running(tmp_path / "log", "demo", *SMALL, max_open_files=64) as server, ExitStack() as stack:
        with promise_kept(server, "80 connections at 64 file descriptors"):
            for index in range(80):
                stack.enter_context(connect(server)).sendall((b"", GET, b"GET /h")[index % 3])
            time.sleep(1)
        assert "so far" in server.log

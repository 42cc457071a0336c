"""Servers of clients' own, which stand between who asks and ours."""

import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_READY_WITHIN_S = 240  # SillyTavern compiles its page first


@contextmanager
def own_server(
    command: list[str], folder: Path, log: Path, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run `command` with `--port PORT` in `folder`; yields its URL as soon as it answers GET of the path `ready`."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=os.environ | (environment or {}),
            stdout=stream,
            stderr=stream,
        )
    try:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not _answers(url + ready):
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline_s, log.read_text()[-4000:]
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    """One that no connection takes meanwhile: such a server needs many seconds until it listens."""
    for port in random.sample(range(20_000, 32_000), 100):  # below those that the system gives away
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, TimeoutError):
        return False
    return True

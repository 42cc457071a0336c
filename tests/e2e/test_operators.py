"""What an operator decides, and learns when the engine cannot be kept alive."""

import os
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

from tests.e2e.server_process import COMMAND, SMALL, environment, running
from tests.e2e.test_errors import post

TEMPLATE = "{% for message in messages %}USER: {{ message.content }}\nASSISTANT:{% endfor %}"


def test_templates_from_requests_where_the_operator_trusts_them(tmp_path: Path) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "chat_template": TEMPLATE}
    with running(tmp_path / "log", "demo", *SMALL, "--trust-request-chat-template") as server:
        status, answer = post(server, "/v1/chat/completions", body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].strip()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "aphrodite.sock"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))  # left behind by a server that was killed
    with running(tmp_path / "log", "demo", *SMALL, "--uds", str(path)) as server:
        assert server.url == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b'{"status":"ok"}')
        second = subprocess.run(
            [COMMAND, "run", "demo", *SMALL, "--uds", str(path)],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
            check=False,
        )
        assert (second.returncode, second.stderr.splitlines()[-1]) == (
            2,
            f"aphrodite: Cannot listen on {path}, where another server does; choose another --uds.",
        )
        assert server.stop() == 0
    assert not path.exists()


def test_an_engine_that_dies_again_and_again_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path / "log", "demo", *SMALL) as server:
        deadline_s = time.monotonic() + 90
        while server.process.poll() is None:
            assert time.monotonic() < deadline_s, server.log
            for pid in server.engine_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        assert server.process.returncode == 1
        assert "The engine died 5 times" in server.log

"""The real server, in a process of its own, and a real server of images."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("aphrodite"))
SMALL = ("--device", "cpu", "--kv-cache-memory", "40000000", "--host", "127.0.0.1", "--port", "0")
_READY_WITHIN_S = 120


def environment(**more: str) -> dict[str, str]:
    """Without what the tests' own shell may have set, and one thread for each process."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("APHRODITE_", "OPENAI_"))}
    return own | {"OMP_NUM_THREADS": "1", "NO_PROXY": "*"} | more


class ServerProcess:
    """`aphrodite run ...`, ready; `url` is where it listens."""

    def __init__(
        self, log: Path, *args: str, env: dict[str, str] | None = None, max_open_files: int | None = None
    ) -> None:
        self._log = log
        limited = [] if max_open_files is None else ["sh", "-c", f'ulimit -n {max_open_files}; exec "$@"', "-"]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*limited, COMMAND, "run", *args], stdout=stream, stderr=stream, env=env or environment()
            )
        self.url = self._wait_until_ready()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        _, text = self.get("/metrics")
        found = re.search(rf"^aphrodite:{name}{{model_name=\"[^\"]*\"}} (\S+)$", text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def wait_for_metric(self, name: str, value: float, within_s: float = 30) -> None:
        deadline_s = time.monotonic() + within_s
        while self.metric(name) != value:
            assert time.monotonic() < deadline_s, f"{name} is {self.metric(name)}, and not {value}"
            time.sleep(0.05)

    def wait_for_log(self, part: str, within_s: float = 30) -> None:
        deadline_s = time.monotonic() + within_s
        while part not in self.log:
            assert time.monotonic() < deadline_s, self.log[-2000:]
            time.sleep(0.05)

    def engine_pids(self) -> list[int]:
        """The server's children that compute; what tracks resources and what decodes pictures are none."""
        pids = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if Path(f"/proc/{pid}").exists()}
        return [pid for pid, line in lines.items() if b"resource_tracker" not in line and b"nursery" not in line]

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def _wait_until_ready(self) -> str:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline_s:
            found = re.search(r"Aphrodite is ready at (https?://[\d.]+:\d+|unix:\S+)", self.log)
            if found:
                return found[1]
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        raise AssertionError(self.log)


@contextmanager
def running(
    log: Path, *args: str, env: dict[str, str] | None = None, max_open_files: int | None = None
) -> Iterator[ServerProcess]:
    """A server for as long as the block takes."""
    server = ServerProcess(log, *args, env=env, max_open_files=max_open_files)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@contextmanager
def image_server(files: Mapping[str, bytes]) -> Iterator[str]:
    """A real HTTP server of `files` by path; yields its URL. /slow never answers."""
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                finished.wait(20)
            data = files.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        finished.set()
        server.shutdown()
        thread.join()
        server.server_close()

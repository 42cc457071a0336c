"""Deaths, ends and limits: each on a server of its own."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import MODEL
from tests.e2e.server_process import COMMAND, SMALL, ServerProcess, environment, running
from tests.e2e.test_chat import ask
from tests.e2e.test_errors import CHAT, HELLO, check_error, post

LONG = {"max_tokens": 4000, "extra_body": {"ignore_eos": True}}


class Streams:
    """Long streamed answers under way, each in a thread; `ends` says how each ended."""

    def __init__(self, server: ServerProcess, num: int, **fields: Any) -> None:
        self.ends: list[str] = []
        self.num_chunks = [0] * num
        self._server, self._fields = server, LONG | fields
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(num)]
        for thread in self._threads:
            thread.start()

    def wait_until_under_way(self) -> None:
        deadline_s = time.monotonic() + 30
        while min(self.num_chunks) < 3:
            assert time.monotonic() < deadline_s, self.ends
            time.sleep(0.02)

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join(60)
        assert len(self.ends) == len(self._threads)
        return self.ends

    def _run(self, index: int) -> None:
        with openai.OpenAI(api_key="-", base_url=f"{self._server.url}/v1", max_retries=0, timeout=60) as client:
            try:
                end = "cut off"
                for chunk in client.chat.completions.create(
                    model=MODEL, messages=ask(f"Question {index}"), stream=True, **self._fields
                ):
                    self.num_chunks[index] += 1
                    end = chunk.choices[0].finish_reason or end
                self.ends.append(end)
            except openai.APIError as error:
                self.ends.append(error.message)


def test_engine_killed_under_load_then_sigterm_under_load(checkpoint: Path, tmp_path: Path) -> None:
    args = ("--served-model-name", MODEL, "--shutdown-timeout", "1", "--log-format", "json")
    with running(tmp_path / "log", str(checkpoint), *SMALL, *args) as server:
        streams = Streams(server, 4)
        streams.wait_until_under_way()
        [pid] = server.engine_pids()
        os.kill(pid, signal.SIGKILL)
        assert all("engine's process ended" in end for end in streams.join())
        status, body = server.get("/health")
        assert (status, body) in ((503, '{"status":"unavailable"}'), (200, '{"status":"ok"}'))
        deadline_s = time.monotonic() + 60
        while server.get("/health")[0] != 200:
            status, body = post(server, CHAT, HELLO)
            assert status in (503, 200)
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert post(server, CHAT, HELLO)[0] == 200
        assert server.engine_pids() != [pid]

        streams = Streams(server, 4)
        streams.wait_until_under_way()
        assert server.stop(within_s=20) == 0
        assert all("shuts down" in end for end in streams.join())
        assert all(json.loads(line)["message"] for line in server.log.splitlines() if line.startswith("{"))
        assert any(json.loads(line).get("request_id") for line in server.log.splitlines() if line.startswith("{"))
        assert "Traceback" not in server.log


def test_sigterm_lets_short_answers_finish(checkpoint: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", str(checkpoint), *SMALL, "--served-model-name", MODEL) as server:
        streams = Streams(server, 3, max_tokens=300)
        streams.wait_until_under_way()
        assert server.stop() == 0
        assert streams.join() == ["length"] * 3


def test_keys_limits_and_browsers(checkpoint: Path, tmp_path: Path) -> None:
    keys = ("--api-key", "sk-first", "--max-queue", "1", "--max-num-seqs", "1", "--request-timeout", "3")
    limits = ("--max-body-bytes", "20000", "--cors-origins", "https://page.example", "--served-model-name", MODEL)
    env = environment(APHRODITE_MAX_MODEL_LEN="4096")
    with running(tmp_path / "log", str(checkpoint), *SMALL, *keys, *limits, env=env) as server:
        base = [*["curl", "-s", "-w", "\\n%{http_code}"], server.url + "/v1/models"]

        def curl(*args: str) -> tuple[str, int]:
            shown = subprocess.run([*base, *args], capture_output=True, text=True, check=True, timeout=30).stdout
            body, _, status = shown.rpartition("\n")
            return body, int(status)

        for header in ("", "Authorization: Bearer", "Authorization: Bearer sk-firs", "Authorization: Basic sk-first"):
            body, status = curl("-H", header)
            check_error((status, json.loads(body)), 401, "API key")
        assert curl("-H", "Authorization: Bearer sk-first")[1] == 200
        assert server.get("/health")[0] == 200
        for path in ("/metrics", "/openapi.json", "/v1/models", "/nope", "//health", "/health%2f..%2fv1"):
            assert server.get(path)[0] == 401, path
        preflight = ("-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST", "-H")
        assert curl(*preflight, "Origin: https://page.example")[1] == 200
        body, status = curl(*preflight, "Origin: https://other.example")
        check_error((status, json.loads(body)), 400, "browser")

        with openai.OpenAI(api_key="sk-first", base_url=f"{server.url}/v1", max_retries=0) as client:
            with pytest.raises(openai.APIStatusError) as too_large:
                client.completions.create(model=MODEL, prompt="x" * 30_000)
            assert too_large.value.status_code == 413
            codes: list[tuple[int, str | None]] = []

            def ask_long() -> None:
                try:
                    client.chat.completions.create(model=MODEL, messages=ask("Hello"), **LONG)  # type: ignore[call-overload]
                except openai.APIStatusError as error:
                    codes.append((error.status_code, error.response.headers.get("retry-after")))

            threads = [threading.Thread(target=ask_long) for _ in range(4)]
            for thread in threads:
                thread.start()
                time.sleep(0.1)
            for thread in threads:
                thread.join(30)
        assert {code for code, _ in codes} == {429, 504}
        assert all(after == "1" for code, after in codes if code == 429)


def test_a_second_interrupt_ends_at_once(checkpoint: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", str(checkpoint), *SMALL, "--served-model-name", MODEL) as server:
        [engine] = server.engine_pids()
        streams = Streams(server, 1)
        streams.wait_until_under_way()
        server.process.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + 20
        while "Shutting down" not in server.log:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert server.stop(signal.SIGINT, within_s=5) == -signal.SIGINT
        streams.join()
        while Path(f"/proc/{engine}").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def test_a_port_that_is_taken_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [COMMAND, "run", str(checkpoint), *SMALL[:-1], port],
            capture_output=True, text=True, env=environment(), timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert port in done.stderr.splitlines()[-1]


def test_two_that_start_at_once(checkpoint: Path, tmp_path: Path) -> None:
    """Both could bind the port, as nobody listened yet."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        process = subprocess.Popen(
            [COMMAND, "run", str(checkpoint), *SMALL[:-1], port], stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stderr is not None
        time.sleep(1)  # it has bound by then, or will fail to: either way it names the port
        other.listen()
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert port in complaint.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["{checkpoint}", "--port", "high"], "--port"),
        (["{checkpoint}", "--dtype", "int1"], "--dtype"),
        (["{checkpoint}", "--config", "missing.yaml"], "missing.yaml"),
        (["{checkpoint}", "--chat-template", "missing.jinja"], "--chat-template"),
        (["{checkpoint}", "--chat-template", "{% if %}"], "chat template"),
        (["{checkpoint}", "--ssl-certfile", "missing.pem"], "--ssl-certfile"),
        (["{checkpoint}", "--allowed-local-media-path", "missing"], "--allowed-local-media-path"),
        (["{checkpoint}", "--backend", "abacus"], "abacus"),
        (["/no/such/model"], "/no/such/model"),
        ([], "MODEL is missing"),
    ],
)
def test_mistakes_are_one_sentence(checkpoint: Path, tmp_path: Path, args: list[str], part: str) -> None:
    given = [arg.replace("{checkpoint}", str(checkpoint)) for arg in args]
    done = subprocess.run(
        [COMMAND, "run", *given],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    complaint = done.stderr.splitlines()[-1]
    assert complaint.startswith("aphrodite: ")
    assert part in complaint
    assert "Traceback" not in done.stderr


def test_no_chat_template(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name not in ("chat_template.jinja", "chat_template.json"):
            (folder / file.name).symlink_to(file)
    done = subprocess.run(
        [COMMAND, "run", str(folder)], capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--chat-template" in done.stderr.splitlines()[-1]

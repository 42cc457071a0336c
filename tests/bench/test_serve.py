"""`aphrodite bench serve` against a real server of known answers."""

import asyncio
import itertools
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from aphrodite.adapters.inbound.cli.app import main

NUM_TOKENS = 6
FIRST_TOKEN_S = 0.08
TOKEN_S = 0.02


class Upstream:
    """Answers with NUM_TOKENS tokens, or as `failures` says of the requests by their number; 0 is the warm-up."""

    def __init__(self) -> None:
        self.failures: dict[int, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""
        self.num_running = self.most_running = 0
        self._numbers = itertools.count()

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "known"}, {"id": "other"}]})

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("")

    async def chat(self, request: Request) -> Response:
        failure = self.failures.get(next(self._numbers))
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        if failure is not None and failure.isdecimal():
            return JSONResponse({"error": {"message": "no"}}, int(failure))
        return StreamingResponse(self._events(failure), media_type="text/event-stream")

    async def _events(self, failure: str | None) -> AsyncIterator[bytes]:
        def event(**fields: Any) -> bytes:
            return b"data: " + json.dumps(fields).encode() + b"\n\n"

        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        yield b": a comment\n\n" + event(choices=[{"delta": {"role": "assistant", "content": ""}}])
        await asyncio.sleep(FIRST_TOKEN_S)
        if failure == "event":
            yield event(error={"message": "the engine died"})
        if failure == "garbage":
            yield b"data: {\n\n"
        for index in range(NUM_TOKENS):
            piece = event(choices=[{"delta": {"content": f"{index} "}}])
            yield piece[:9]  # events need not come in one piece
            yield piece[9:]
            await asyncio.sleep(TOKEN_S if index + 1 < NUM_TOKENS else 0)
        yield event(choices=[{"delta": {}, "finish_reason": "length"}])
        if failure != "uncounted":
            yield event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": NUM_TOKENS})
        yield b"data: [DONE]\n\n"
        self.num_running -= 1


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream()
    routes = [
        Route("/v1/models", found.models),
        Route("/health", found.health),
        Route("/v1/chat/completions", found.chat, methods=["POST"]),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    found.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.should_exit = True
        thread.join()


def bench(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """The exit code of `aphrodite bench serve ARGS`."""
    monkeypatch.setattr(sys, "argv", ["aphrodite", "bench", "serve", *args])
    with pytest.raises(SystemExit) as raised:
        main()
    return int(raised.value.code or 0)


def test_a_run_counts_what_the_server_did(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.failures = {2: "429", 4: "event", 5: "garbage", 7: "uncounted", 9: "429"}
    file, picture = tmp_path / "figures.json", tmp_path / "plot.png"
    args = ("--requests", "12", "--concurrency", "3", "--output-tokens", str(NUM_TOKENS), "--api-key", "sk-secret")
    files = ("--json", str(file), "--plot", str(picture))
    assert bench(monkeypatch, "--url", f"{upstream.url}/v1", *args, "--image-size", "40x30", *files) == 0

    found = json.loads(file.read_text())
    assert set(found) - {"commit"} == {"command", "date", "versions", "device", "settings", "figures"}
    assert found["command"][:3] == ["aphrodite", "bench", "serve"]
    assert "sk-secret" not in file.read_text()
    assert set(upstream.keys) == {"Bearer sk-secret"}
    assert found["settings"]["model"] == "known"
    assert found["settings"]["concurrency"] == 3
    assert found["device"]["num_cpus"] >= 1

    figures = found["figures"]
    assert (figures["num_good"], figures["num_failed"]) == (7, 5)
    assert figures["errors"] == {"HTTP 429": 2, "error event": 1, "unreadable event": 1, "no token count": 1}
    assert (figures["input_tokens"], figures["output_tokens"]) == (7 * 5, 7 * NUM_TOKENS)
    assert figures["output_tokens_per_s"] == pytest.approx(7 * NUM_TOKENS / figures["duration_s"], rel=0.01)
    # Sleeps are never shorter than asked; how much longer is up to the machine.
    assert FIRST_TOKEN_S * 1000 * 0.95 <= figures["time_to_first_token_ms"]["p50"] < 1000
    assert TOKEN_S * 1000 * 0.9 <= figures["time_per_token_ms"]["p50"] < 500
    assert figures["health_checks"] > 2
    assert figures["health_checks_failed"] == 0
    assert figures["offline_ratio"] is None

    assert len(upstream.asked) == 13  # with the warm-up
    assert all(body["ignore_eos"] and body["stream_options"] == {"include_usage": True} for body in upstream.asked)
    assert upstream.asked[1]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "7 good, 5 failed" in capsys.readouterr().out


def test_no_more_run_at_once_than_asked_for(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench(monkeypatch, "--url", upstream.url, "--requests", "8", "--concurrency", "3") == 0
    assert upstream.most_running == 3


def test_poisson_arrivals_wait_for_no_answer(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "figures.json"
    args = ("--requests", "20", "--rate", "100", "--no-ignore-eos", "--model", "mine", "--json", str(file))
    assert bench(monkeypatch, "--url", upstream.url, *args) == 0
    found = json.loads(file.read_text())
    assert found["figures"]["num_good"] == 20
    assert found["settings"]["concurrency"] is None
    assert upstream.most_running > 5  # each takes a fifth of a second
    assert all("ignore_eos" not in body and body["model"] == "mine" for body in upstream.asked)


def test_nothing_but_failures_is_reported_and_fails(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.failures = dict.fromkeys(range(9), "503")
    assert bench(monkeypatch, "--url", upstream.url, "--requests", "4") == 1
    said = capsys.readouterr()
    assert "HTTP 503" in said.out
    assert said.err == "aphrodite: None of the 4 requests was answered.\n"


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        (("--url", "http://127.0.0.1:9"), 1, "No server can be reached at http://127.0.0.1:9;"),
        (("--url", "http://127.0.0.1:9", "--model", "m"), 1, "No server can be reached"),
        (("--url", "ftp://x"), 2, "--url must be like"),
        (("--url", "http://x:port"), 2, "--url must be like"),
        (("--rate", "1", "--concurrency", "2"), 2, "exclude each other"),
        (("--rate", "0"), 2, "--rate must be above 0"),
        (("--image-size", "big"), 2, "--image-size must be like"),
        (("--requests", "0"), 2, "--requests"),
        (("--json", "/no/such/folder/x.json"), 2, "There is no folder"),
        (("--plot", "plot.pdf"), 2, "--plot must end in .png"),
    ],
)
def test_a_mistake_is_one_sentence(
    args: tuple[str, ...], code: int, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, *args) == code
    said = capsys.readouterr()
    assert part in said.err
    assert said.err.startswith("aphrodite: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_without_matplotlib_a_plot_is_refused_before_the_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aphrodite.bench.plot.find_spec", lambda name: None)
    assert bench(monkeypatch, "--plot", "plot.png") == 2
    assert "pip install 'aphrodite-vlm[bench]'" in capsys.readouterr().err

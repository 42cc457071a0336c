"""Bodies that cost more than they seem to, and answers that nobody reads."""

import json
import time
from contextlib import ExitStack
from threading import Thread
from typing import Any

import pytest
from tests.e2e.attacks.promise import MODEL, besiege, connect, http_post, promise_kept, read_answer, send
from tests.e2e.server_process import ServerProcess

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SIZE = 31_000_000


def repeated(before: str, piece: str, after: str) -> bytes:
    """A body of nearly 32 MB."""
    return (before + piece * (SIZE // len(piece)) + after).encode()


def chat(content: str) -> tuple[str, str]:
    head, _, tail = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "?"}]}).partition('"?"')
    before, _, after = content.partition("?")
    return head + before, after + tail


BODIES = {
    "lists in an unknown field": (CHAT, ('{"x": [', "[],", "[]]}")),
    "lists as messages": (CHAT, ('{"model": "demo", "messages": [', "[],", "[]]}")),
    "lists as prompts": (TEXT, ('{"model": "demo", "prompt": [', "[],", "[]]}")),
    "lists in a tool call": (
        CHAT,
        ('{"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"a": [', "[],", "[]]}]}]}"),
    ),
    "many fields": (CHAT, ('{"a": 1', ',"a": 1', "}")),
    "a long role": (CHAT, ('{"model": "demo", "messages": [{"content": "x", "role": "', "x", '"}]}')),
    "a long model name": (TEXT, ('{"prompt": "x", "model": "', "x", '"}')),
    "a long field name": (TEXT, ('{"', "x", '": 1}')),
    "escapes": (CHAT, (*chat('"?"')[:1], "\\u00e9", chat('"?"')[1])),
    "wide characters": (CHAT, (chat('"?"')[0] + "\U0001f600", "a", chat('"?"')[1])),
    "an address": (CHAT, ('{"model": "demo", "messages": [{"role": "user", "content": [{"type": "image_url", '
                          '"image_url": "data:image/png;base64,', "A", '"}]}]}')),
}  # fmt: skip


@pytest.mark.parametrize("name", ["lists in an unknown field", "a long role"])
def test_one_large_body(demo: ServerProcess, name: str) -> None:
    path, parts = BODIES[name]
    request = http_post(path, repeated(*parts))
    with promise_kept(demo, name):
        status, body = send(demo, request)
    assert (status, len(body) < 3000) == (400, True)


@pytest.mark.attack
@pytest.mark.parametrize("name", BODIES)
def test_large_bodies_side_by_side(demo: ServerProcess, name: str) -> None:
    path, parts = BODIES[name]
    request, answers = http_post(path, repeated(*parts)), list[tuple[int, bytes]]()
    with promise_kept(demo, f"8 times {name}"):
        threads = [Thread(target=lambda: answers.append(send(demo, request, timeout_s=120))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {status for status, _ in answers} <= {400, 404}
    assert len(answers) == 8


def test_bodies_that_do_not_end(demo: ServerProcess) -> None:
    with promise_kept(demo, "40 bodies of 32 MB, unfinished"), ExitStack() as stack:
        request = http_post(TEXT, repeated('{"prompt": "', "x", '"}'))[:-100]
        for _ in range(40):
            connection = stack.enter_context(connect(demo, timeout_s=0.2))
            try:
                connection.sendall(request)
            except TimeoutError:
                continue  # it is not taken, as it should be
        time.sleep(1)


def test_the_same_of_nothing(demo: ServerProcess) -> None:
    """Small bodies that once were answered with a 500, or with nothing."""
    nested = '[{"a":' * 450 + "1" + "}]" * 450
    bodies = [
        (b"{}", "Content-Length: " + "0" * 5000 + "2"),
        (json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}]}).encode()[:-2], ""),
        (f'{{"model": "demo", "messages": [{{"role": "assistant", "tool_calls": {nested}}}]}}'.encode(), ""),
    ]
    with promise_kept(demo, "small bodies"):
        for body, header in bodies:
            request = http_post(CHAT, body)
            if header:
                request = request.replace(b"Content-Length: 2", header.encode())
            assert send(demo, request)[0] == 400


def unread(stream: bool) -> bytes:
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "n": 128}
    body |= {"logprobs": True, "top_logprobs": 20, "max_tokens": 200, "ignore_eos": True, "stream": stream}
    return http_post(CHAT, json.dumps(body).encode())


@pytest.mark.attack
@pytest.mark.parametrize("stream", [True, False])
def test_readers_that_never_read(demo: ServerProcess, stream: bool) -> None:
    with promise_kept(demo, f"10 readers that never read, stream {stream}"), ExitStack() as stack:
        connections = [stack.enter_context(connect(demo)) for _ in range(10)]
        for connection in connections:
            connection.sendall(unread(stream))
        deadline_s = time.monotonic() + 60
        while demo.metric("num_requests_running") + demo.metric("num_requests_waiting") > 0:
            assert time.monotonic() < deadline_s
            time.sleep(0.5)


@pytest.mark.attack
def test_a_slow_upload_is_waited_for(demo: ServerProcess) -> None:
    """Honest, and on a bad line: 1 MB in 20 seconds."""
    body = json.dumps({"model": MODEL, "prompt": "Hi", "max_tokens": 1, "user": "x" * 1_000_000}).encode()
    with connect(demo) as connection:
        request = http_post(TEXT, body)
        for start in range(0, len(request), 50_000):
            connection.sendall(request[start : start + 50_000])
            time.sleep(1)
        assert read_answer(connection)[0] == 200


@pytest.mark.attack
@pytest.mark.parametrize(("num_requests", "n"), [(10, 100), (20, 60)])
def test_logprobs_of_whole_answers(demo: ServerProcess, num_requests: int, n: int) -> None:
    """Four or five million candidates, kept until all answers are whole."""
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "n": n}
    body |= {"logprobs": True, "top_logprobs": 20, "max_tokens": 200, "ignore_eos": True, "temperature": 1}
    requests = [http_post(CHAT, json.dumps(body).encode(), "Connection: close")] * num_requests
    with promise_kept(demo, f"log-probabilities of {num_requests} whole answers, {n * 4200:,} each"):
        statuses = besiege(demo, requests, within_s=300)
    print("statuses:", {status: statuses.count(status) for status in set(statuses)})
    assert len(statuses) == num_requests
    assert {200, 503} <= set(statuses) <= {200, 429, 503}

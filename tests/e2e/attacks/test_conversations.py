"""Conversations of very many small parts."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.attacks.promise import MODEL, http_post, promise_kept, send
from tests.e2e.server_process import ServerProcess

HELLO = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"function": {"name": "f", "arguments": {}}}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = {"type": "text", "text": "a"}

# What is repeated, and the rest of the request with a place for it.
CONVERSATIONS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "messages": ("/v1/chat/completions", {"role": "user", "content": "a"}, {"messages": "?"}),
    "tools": ("/v1/chat/completions", TOOL, {"messages": [HELLO], "tools": "?"}),
    "text parts": ("/v1/chat/completions", TEXT, {"messages": [{"role": "user", "content": "?"}]}),
    "image parts": (
        "/v1/chat/completions",
        {"type": "image_url", "image_url": "data:,"},
        {"messages": [{"role": "user", "content": "?"}]},
    ),
    "calls of former turns": (
        "/v1/chat/completions",
        CALLED,
        {"messages": [{"role": "assistant", "tool_calls": "?"}, HELLO]},
    ),
    "messages to be counted": ("/v1/tokenize", {"role": "user", "content": "a"}, {"messages": "?"}),
    "Ollama's messages": ("/api/chat", {"role": "user", "content": "a"}, {"messages": "?"}),
    "Ollama's images": ("/api/chat", "", {"messages": [HELLO | {"images": "?"}]}),
    "Ollama's images to generate": ("/api/generate", "", {"prompt": "Hello", "images": "?"}),
    "Ollama's calls": ("/api/chat", CALL, {"messages": [{"role": "assistant", "tool_calls": "?"}, HELLO]}),
    "Ollama's tools": ("/api/chat", TOOL, {"messages": [HELLO], "tools": "?"}),
    "Kobold's images": ("/api/v1/generate", "", {"prompt": "Hello", "images": "?"}),
    "Anthropic's messages": ("/v1/messages", {"role": "user", "content": "a"}, {"max_tokens": 1, "messages": "?"}),
    "Anthropic's blocks": ("/v1/messages", TEXT, {"max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}),
    "Anthropic's tools": ("/v1/messages", {"name": "f"}, {"max_tokens": 1, "messages": [HELLO], "tools": "?"}),
    "items of a response": ("/v1/responses", {"role": "user", "content": "a"}, {"input": "?"}),
    "parts of a response's item": (
        "/v1/responses",
        {"type": "input_text", "text": "a"},
        {"input": [{"role": "user", "content": "?"}]},
    ),
    "tools of a response": ("/v1/responses", {"type": "function", "name": "f"}, {"input": "Hello", "tools": "?"}),
}


def repeating(conversation: str, number: int) -> bytes:
    path, piece, rest = CONVERSATIONS[conversation]
    before, after = json.dumps({"model": MODEL} | rest).split('"?"')
    return http_post(path, (before + "[" + ",".join([json.dumps(piece)] * number) + "]" + after).encode())


def too_many(conversation: str) -> int:
    """Of what is repeated, as it fits into 12 MB."""
    return 12_000_000 // len(json.dumps(CONVERSATIONS[conversation][1]) + ",")


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(name, marks=[] if name in ("tools", "Ollama's images") else [pytest.mark.attack])
        for name in CONVERSATIONS
    ],
)
def test_more_than_is_read(demo: ServerProcess, conversation: str) -> None:
    request = repeating(conversation, min(too_many(conversation), 1_000_000))
    with promise_kept(demo, f"4 requests of 12 MB of {conversation}"), ThreadPoolExecutor(4) as attackers:
        answers = list(attackers.map(lambda _: send(demo, request), range(4)))
    assert {status for status, _ in answers} == {400}
    assert max(len(body) for _, body in answers) < 3000


@pytest.mark.attack
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_as_many_as_are_read(demo: ServerProcess, conversation: str) -> None:
    request = repeating(conversation, 9_900)
    with promise_kept(demo, f"8 requests of 9,900 {conversation}"), ThreadPoolExecutor(8) as attackers:
        statuses = [status for status, _ in attackers.map(lambda _: send(demo, request), range(8))]
    assert set(statuses) == {400}  # it is more than the model can read


@pytest.mark.attack
@pytest.mark.parametrize("field", ["name", "description"])
def test_a_long_word_that_a_response_repeats(demo: ServerProcess, field: str) -> None:
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}} | {field: "x" * 28_000_000}
    body = {"model": MODEL, "input": "Hello", "stream": True, "text": {"format": form}}
    request = http_post("/v1/responses", json.dumps(body).encode())
    with promise_kept(demo, f"a {field} of 28 MB"):
        assert send(demo, request)[0] == 400


IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,?"}]}]},
    ),
    "Ollama": ("/api/chat", {"messages": [HELLO | {"images": ["?"]}]}),
    "Kobold": ("/api/v1/generate", {"prompt": "Hello", "images": ["?"]}),
    "Anthropic": (
        "/v1/messages",
        {
            "max_tokens": 1,
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "?"}}]},
            ],
        },
    ),
    "a response": (
        "/v1/responses",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,?"}]},
            ]
        },
    ),
}


@pytest.mark.attack
@pytest.mark.parametrize("api", IMAGES)
def test_large_images_in_base64(demo: ServerProcess, api: str) -> None:
    path, asked = IMAGES[api]
    before, after = json.dumps({"model": MODEL} | asked).split("?")
    request = http_post(path, (before + "A" * 31_000_000 + after).encode())
    with promise_kept(demo, f"8 images of 31 MB, {api}"), ThreadPoolExecutor(8) as attackers:
        statuses = [status for status, _ in attackers.map(lambda _: send(demo, request), range(8))]
    assert set(statuses) <= {400, 429}


@pytest.mark.attack
@pytest.mark.parametrize("conversation", ["tools", "Ollama's tools", "Anthropic's tools", "tools of a response"])
@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_parameters_of_tools(demo: ServerProcess, conversation: str, depth: int) -> None:
    path, tool, rest = CONVERSATIONS[conversation]
    field = "input_schema" if path == "/v1/messages" else "parameters"
    deep = {**tool, "function": {**tool["function"], field: "!"}} if "function" in tool else {**tool, field: "!"}
    schema = '{"items": ' * depth + "{}" + "}" * depth
    asked = json.dumps({"model": MODEL} | rest).replace('"?"', f"[{json.dumps(deep)}]")
    request = http_post(path, asked.replace('"!"', schema).encode())
    with promise_kept(demo, f"4 times {conversation}, {depth} deep"), ThreadPoolExecutor(4) as attackers:
        statuses = [status for status, _ in attackers.map(lambda _: send(demo, request), range(4))]
    assert set(statuses) == {400}

"""The promise as a property of every endpoint that there is: whatever the body holds, all others are served."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.attacks.promise import MODEL, besiege, http_post, promise_kept, send
from tests.e2e.server_process import ServerProcess

_SIZE = 31_000_000  # of a body of nearly 32 MB
_UNCOUNTED = 1_000_000  # values that a body may hold

# What a field may be filled with: by its length in characters, or by its number of values.
_FILLINGS: dict[str, tuple[str, str, str]] = {
    "text": ('"', "x", '"'),
    "words": ('"', "a ", '"'),
    "escapes": ('"', "\\u00e9", '"'),
    "special tokens": ('"', "<image>", '"'),
    "lists": ("[", "[],", "[]]"),
    "objects": ("[", '{"a": 1},', "1]"),
    "numbers": ("[", "5,", "5]"),
    "strings": ("[", '"x",', '"x"]'),
    "keys": ("{", '"5": 1,', '"5": 1}'),
    "a deep list": ("", "[", ""),
    "a large number": ("", "9", ""),
}


def endpoints(server: ServerProcess) -> dict[str, list[str]]:
    """Each POST path with the fields that it knows, from the server's own description."""
    description = json.loads(server.get("/openapi.json")[1])
    found = {}
    for path, operations in description["paths"].items():
        if "requestBody" in operations.get("post", ()):
            schema = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            found[path] = sorted(description["components"]["schemas"][name]["properties"])
    return found


def body(field: str, filling: str, num_pieces: int) -> bytes:
    """A request in which one field holds too much, and the others what they should."""
    needed: dict[str, Any] = {"model": MODEL, "max_tokens": 1, "max_length": 1, "max_output_tokens": 1, "input": "Hi"}
    needed["options"] = {"num_predict": 1}
    if field not in ("messages", "prompt"):
        needed |= {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], "tokens": [5]}
    rest = "".join(f', "{name}": {json.dumps(value)}' for name, value in needed.items() if name != field)
    before, piece, after = _FILLINGS[filling]
    return f'{{"{field}": {before}{piece * num_pieces}{after}{rest}}}'.encode()


def hostile(server: ServerProcess, filling: str, size: int) -> list[bytes]:
    num_pieces = size // len(_FILLINGS[filling][1])
    return [
        http_post(path, body(field, filling, num_pieces))
        for path, fields in endpoints(server).items()
        for field in [*fields, "unknown"]
    ]


@pytest.mark.parametrize("filling", _FILLINGS)
def test_small(demo: ServerProcess, filling: str) -> None:
    """Bodies of 100 kB, in every field of every endpoint."""
    requests = hostile(demo, filling, 100_000)
    with promise_kept(demo, f"{len(requests)} bodies of 100 kB, {filling}"), ThreadPoolExecutor(4) as attackers:
        statuses = [status for status, _ in attackers.map(lambda request: send(demo, request), requests)]
    assert set(statuses) <= {200, 400, 404}


def test_paths(demo: ServerProcess) -> None:
    """Every path, as it is, with a query of 50 kB, and with more in front and behind; all at once."""
    paths = re.findall(r"(?:Paths: |, )(/[^,\s]*)", demo.log)
    assert "/playground/main.js" in paths
    forms = ("{}", "{}?" + "q=1&" * 12_500, "{}/" + "../" * 1_000, "{}" + "/x" * 10_000, "{}%00", "/{}")
    requests = [
        f"{method} {form.format(path)} HTTP/1.1\r\nHost: attacked\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        for path in paths
        for form in forms
        for method in ("GET", "DELETE")
    ]
    with promise_kept(demo, f"{len(requests)} paths"):
        statuses = besiege(demo, [request.encode() for request in requests])
    assert set(statuses) <= {200, 400, 404, 405, 431}


@pytest.mark.attack
@pytest.mark.parametrize("filling", _FILLINGS)
def test_large(demo: ServerProcess, filling: str) -> None:
    """Bodies of nearly 32 MB, those of them that are the first to be looked into."""
    num_pieces = _SIZE // len(_FILLINGS[filling][1])
    fields = ("messages", "prompt", "tokens", "stop", "logit_bias", "unknown")
    requests = [
        http_post(path, body(field, filling, count))
        for path, known in endpoints(demo).items()
        for field in fields
        if field in known or field == "unknown"
        for count in sorted({num_pieces, min(num_pieces, _UNCOUNTED)})
    ]
    with promise_kept(demo, f"{len(requests)} bodies of up to 32 MB, {filling}"), ThreadPoolExecutor(4) as attackers:
        statuses = [status for status, _ in attackers.map(lambda request: send(demo, request), requests)]
    assert set(statuses) <= {200, 400, 404, 429}

"""Every kind of error, in OpenAI's shape."""

import json
import re
import socket
import urllib.error
import urllib.request
from http.client import HTTPMessage as Message
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import data_url

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


def post(server: ServerProcess, path: str, body: Any, method: str = "POST") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check_error(answer: tuple[int, Any], status: int, part: str, param: str | None = None) -> None:
    found, body = answer
    assert found == status, body
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert part in body["error"]["message"]
    assert body["error"]["param"] == param
    assert body["error"]["code"]


@pytest.mark.parametrize(
    ("change", "part", "param"),
    [
        ({"messages": []}, "messages must be", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "'robot'", "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'", "messages[0].content[0].type"),
        ({"messages": None}, "messages must be", "messages"),
        ({"temperature": -1}, "temperature must be", "temperature"),
        ({"temperature": "hot"}, "temperature must be", "temperature"),
        ({"top_p": -1}, "top_p must be", "top_p"),
        ({"n": 0}, "n must be", "n"),
        ({"n": 10**6}, "n must be", "n"),
        ({"max_tokens": 0}, "max_tokens must be", "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs needs", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs must be", "top_logprobs"),
        ({"logit_bias": {"5": 101}}, "must be", "logit_bias[...]"),
        ({"logit_bias": {"99999": 1}}, "logit_bias holds 99999", "logit_bias"),
        ({"stop": [""]}, "stop must be", "stop"),
        ({"min_tokens": 5}, "min_tokens must be", "min_tokens"),
        ({"best_of": 2}, "best_of is supported where it equals n", "best_of"),
        ({"request_id": "a b"}, "request_id must be", "request_id"),
        ({"tools": [{"type": "function"}]}, "function is missing", "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "'web_search'", "tools[0].type"),
        ({"functions": [{"name": "f"}]}, "functions is not supported yet; use tools", "functions"),
        ({"function_call": {"name": "f"}}, "function_call is not supported yet; use tool_choice", "function_call"),
        ({"response_format": {"type": "yaml"}}, "'yaml'", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing", "response_format.json_schema"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"items": {"not": {}}}},
                }
            },
            "cannot be followed at #/items/not: the keyword not is not supported",
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"regex": "a("}}, "cannot be followed at character 1", "structured_outputs.regex"),
        ({"structured_outputs": {}}, "must have exactly one of json", "structured_outputs"),
        ({"guided_json": "{"}, "guided_json is not valid JSON: see line 1, column 2", "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice cannot be given beside", "guided_choice"),
        ({"guided_grammar": "start: a"}, "cannot be followed at line 1, column 8", "guided_grammar"),
        ({"chat_template": "{{ 1 }}"}, "--trust-request-chat-template", "chat_template"),
        ({"chat_template_kwargs": {"a": [1]}}, "--trust-request-chat-template", "chat_template_kwargs"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": None, "uuid": "sku-1"}]}]},
            "Send the image itself each time",
            "messages",
        ),
        ({"mm_processor_kwargs": {"max_pixels": 9}}, "--max-resized-pixels", "mm_processor_kwargs"),
    ],
)
def test_bad_field(server: ServerProcess, change: dict[str, Any], part: str, param: str) -> None:
    check_error(post(server, CHAT, HELLO | change), 400, part, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b'{"a": "\xff"}', b"nul"])
def test_body_that_is_no_request(server: ServerProcess, body: bytes) -> None:
    check_error(post(server, CHAT, body), 400, "The body")


def test_the_log_says_why_a_request_was_refused_and_what_an_answer_took(server: ServerProcess) -> None:
    asked = {"model": MODEL, "prompt": "a secret question", "max_tokens": 3, "ignore_eos": True}

    def ask(name: str, **more: Any) -> Message:
        headers = {"Content-Type": "application/json", "x-request-id": name}
        request = urllib.request.Request(server.url + TEXT, json.dumps(asked | more).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            received: Message = response.headers
            return received

    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("refused", temperature=-1)
    assert "x-aphrodite-ignored" not in refused.value.headers
    refused.value.close()
    answered = ask("answered", **{"top_kk\r\nä": 1, "max_token": 2})
    assert answered["x-aphrodite-ignored"] == "max_token, top_kk\\r\\n\\xe4"
    server.wait_for_log("[answered]")
    lines = {line.rpartition("[")[2]: line for line in server.log.splitlines() if TEXT in line}
    assert re.search(r"400 in \d+ ms from 127.0.0.1, invalid_value temperature \[", lines["refused]"])
    tokens = r"\d+ prompt tokens, 3 output tokens, the first after \d+ ms"
    assert re.search(rf"200 in \d+ ms from 127.0.0.1, {tokens} \[", lines["answered]"])
    assert "secret" not in server.log


def test_two_images(server: ServerProcess) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(picture("rgb"))}}
    messages = [{"role": "user", "content": [part]}, {"role": "user", "content": [part]}]
    check_error(
        post(server, CHAT, HELLO | {"messages": messages}),
        400,
        "At most 1 image may be provided in one prompt, got 2.",
        "messages",
    )
    assert post(server, CHAT, HELLO)[0] == 200


@pytest.mark.parametrize(
    ("url", "code", "part"),
    [
        ("{images}/missing", "image_http_status", "404"),
        ("{images}/text", "not_an_image", "image"),
        ("http://localhost:9/x.png", "image_forbidden", "localhost"),
        ("http://127.0.0.1:9/x.png", "image_unreachable", "image"),
        ("ftp://example.com/x.png", "invalid_image_url", "http"),
        ("file:///etc/passwd", "image_forbidden", ""),
        ("data:image/png;base64,AAAA", "not_an_image", "image"),
        ("data:image/png;base64,*", "invalid_image_url", "base64"),
    ],
)
def test_image_that_cannot_be_had(server: ServerProcess, images: str, url: str, code: str, part: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url.format(images=images)}}]
    status, body = post(server, CHAT, HELLO | {"messages": [{"role": "user", "content": content}]})
    assert (status, body["error"]["code"]) == (400, code)
    assert part in body["error"]["message"]


def test_too_long(server: ServerProcess) -> None:
    status, body = post(server, CHAT, HELLO | {"messages": [{"role": "user", "content": "0 " * 5000}]})
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert body["error"]["message"].startswith("This model's maximum context length is 4096 tokens. However, you ")


def test_unknown_model_path_and_method(server: ServerProcess) -> None:
    check_error(post(server, CHAT, HELLO | {"model": "gpt-9"}), 404, "'gpt-9'", "model")
    check_error(post(server, "/v1/embeddings", {}), 404, "no such path")
    check_error(post(server, CHAT + "//", HELLO), 404, "no such path")
    check_error(post(server, CHAT, HELLO, "PUT"), 405, "method")
    check_error((lambda answer: (answer[0], json.loads(answer[1])))(server.get("/v1/models/gpt-9")), 404, "", "model")


def test_what_is_no_http(server: ServerProcess) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["message"] == "The request is not valid HTTP."

"""Ollama's API, asked as its clients ask."""

import base64
import json
import urllib.request
from typing import Any

import openai
import pytest
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import ask, data_url
from tests.e2e.test_errors import post

OPTIONS = {"num_predict": 8, "temperature": 0, "num_ctx": 2048}
HELLO = {"role": "user", "content": "Hello there"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def stream(server: ServerProcess, path: str, **fields: Any) -> list[Any]:
    """The lines of an answer; `stream` is the default."""
    body = {"model": MODEL, "options": OPTIONS} | fields
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response]


def whole(server: ServerProcess, path: str, **fields: Any) -> Any:
    status, body = post(server, path, {"model": MODEL, "options": OPTIONS, "stream": False} | fields)
    assert status == 200, body
    return body


def chat_text(client: openai.OpenAI, messages: Any) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, temperature=0)
    return str(answer.choices[0].message.content)


def test_chat(server: ServerProcess, client: openai.OpenAI) -> None:
    expected = chat_text(client, [HELLO])
    answer = whole(server, "/api/chat", messages=[HELLO])
    assert answer["message"] == {"role": "assistant", "content": expected}
    assert (answer["done"], answer["done_reason"], answer["eval_count"]) == (True, "length", 8)
    durations = [answer[f"{part}_duration"] for part in ("prompt_eval", "eval", "total")]
    assert all(isinstance(duration, int) and duration > 0 for duration in durations)
    assert durations[0] + durations[1] <= durations[2]
    *lines, last = stream(server, "/api/chat", messages=[HELLO])
    assert "".join(line["message"]["content"] for line in lines) == expected
    assert not any(line["done"] for line in lines)
    assert last["done"]
    assert last["message"]["content"] == ""
    assert {name: last[name] for name in ("done_reason", "eval_count", "prompt_eval_count")} == {
        name: answer[name] for name in ("done_reason", "eval_count", "prompt_eval_count")
    }


def test_generate(server: ServerProcess, client: openai.OpenAI) -> None:
    system = {"role": "system", "content": "Be brief."}
    expected = chat_text(client, [system, HELLO])
    fields = {"prompt": HELLO["content"], "system": "Be brief."}
    assert whole(server, "/api/generate", **fields)["response"] == expected
    assert "".join(line["response"] for line in stream(server, "/api/generate", **fields)) == expected
    text = client.completions.create(model=MODEL, prompt="Hello there", max_tokens=8, temperature=0)
    assert whole(server, "/api/generate", prompt="Hello there", raw=True)["response"] == text.choices[0].text


def test_pictures(server: ServerProcess, client: openai.OpenAI) -> None:
    red = picture("rgb", (200, 10, 10))
    expected, images = chat_text(client, ask("What is this?", data_url(red))), [base64.b64encode(red).decode()]
    message = {"role": "user", "content": "What is this?", "images": images}
    assert whole(server, "/api/chat", messages=[message])["message"]["content"] == expected
    assert whole(server, "/api/generate", prompt="What is this?", images=images)["response"] == expected
    raw = {"prompt": "USER: <image>\nWhat is this?\nASSISTANT:", "images": images, "raw": True}
    assert whole(server, "/api/generate", **raw)["response"] == expected


def test_models(server: ServerProcess) -> None:
    for path in ("/api/tags", "/api/ps"):
        status, body = server.get(path)
        assert status == 200
        assert json.loads(body)["models"][0]["name"] == MODEL
    shown = whole(server, "/api/show", model=f"{MODEL}:latest")
    assert {"completion", "vision"} <= set(shown["capabilities"])
    assert shown["model_info"]["aphrodite.context_length"] == 4096
    assert whole(server, "/api/chat", model=f"{MODEL}:latest", messages=[])["done_reason"] == "load"
    assert whole(server, "/api/generate")["done_reason"] == "load"
    assert "version" in json.loads(server.get("/api/version")[1])


def test_an_answer_keeps_to_a_schema(server: ServerProcess) -> None:
    options = OPTIONS | {"num_predict": 60}
    for path in ("/api/chat", "/api/generate"):
        answer = whole(server, path, messages=[HELLO], prompt="Hi", format=SCHEMA, options=options)
        text = answer["message"]["content"] if path == "/api/chat" else answer["response"]
        assert json.loads(text)["city"] in ("Paris", "Rome")


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({"format": {"type": "nothing"}}, 400, "format"),
        ({"model": "llama9"}, 404, "'llama9'"),
        ({"options": {"temperature": -1}}, 400, "options.temperature must be"),
        ({"suffix": "x"}, 400, "suffix is not supported"),
        ({"images": ["*"], "prompt": "Hi"}, 400, "base64"),
    ],
)
def test_errors_have_ollamas_form(server: ServerProcess, fields: dict[str, Any], status: int, part: str) -> None:
    found, body = post(server, "/api/generate", {"model": MODEL, "prompt": "Hi"} | fields)
    assert (found, set(body)) == (status, {"error"})
    assert part in body["error"]


def test_unknown_options_are_named(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "Hi", "options": OPTIONS | {"num_gpu": 1}, "stream": False, "colour": "red"}
    request = urllib.request.Request(server.url + "/api/generate", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["x-aphrodite-ignored"] == "colour, options.num_gpu"

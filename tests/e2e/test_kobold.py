"""Kobold's API: what SillyTavern's connection calls, in the order and with the fields that it calls it."""

import base64
import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import ask, data_url
from tests.e2e.test_errors import post

GENERATE, STREAM = "/api/v1/generate", "/api/extra/generate/stream"

# What SillyTavern sends with each prompt; it cannot leave out what the server does not know.
SILLY_TAVERN: dict[str, Any] = {
    "use_story": False, "use_memory": False, "use_authors_note": False, "use_world_info": False,
    "max_context_length": 2048, "max_length": 12, "rep_pen": 1.0, "rep_pen_range": 0, "rep_pen_slope": 1,
    "temperature": 0.0, "tfs": 1, "top_a": 0, "top_k": 0, "top_p": 1, "min_p": 0, "typical": 1,
    "sampler_order": [6, 0, 1, 3, 4, 2, 5], "singleline": False, "use_default_badwordsids": False, "mirostat": 0,
    "mirostat_eta": 0.1, "mirostat_tau": 5,
}  # fmt: skip


def stream(server: ServerProcess, **fields: Any) -> Iterator[Any]:
    """The data of each event."""
    request = urllib.request.Request(server.url + STREAM, json.dumps(SILLY_TAVERN | fields).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response:
            name, _, value = line.decode().rstrip().partition(": ")
            if name == "event":
                assert value == "message"
            elif name == "data":
                yield json.loads(value)


def text(server: ServerProcess, **fields: Any) -> str:
    status, body = post(server, GENERATE, SILLY_TAVERN | fields)
    assert status == 200, body
    [result] = body["results"]
    return str(result["text"])


def result_of(server: ServerProcess, path: str) -> Any:
    status, body = server.get(path)
    assert status == 200
    return json.loads(body)


def test_what_a_connection_begins_with(server: ServerProcess) -> None:
    assert result_of(server, "/api/v1/info/version") == {"result": "1.2.5"}
    version = result_of(server, "/api/extra/version")
    assert (version["result"], version["vision"], version["protected"]) == ("KoboldCpp", True, False)
    assert result_of(server, "/api/v1/model") == {"result": MODEL}
    for path in ("/api/v1/config/max_context_length", "/api/extra/true_max_context_length"):
        assert result_of(server, path) == {"value": 4096}
    assert result_of(server, "/api/v1/config/max_length")["value"] > 0
    assert set(result_of(server, "/api/extra/perf")) == {"queue", "idle", "uptime"}


def test_a_text_is_what_the_openai_api_says(server: ServerProcess, client: openai.OpenAI) -> None:
    expected = client.completions.create(model=MODEL, prompt="The quick brown", max_tokens=12, temperature=0)
    assert text(server, prompt="The quick brown") == expected.choices[0].text
    assert text(server, prompt=" brown", memory="The quick") == expected.choices[0].text
    pieces = list(stream(server, prompt="The quick brown"))
    assert "".join(piece["token"] for piece in pieces) == expected.choices[0].text
    assert [piece["finish_reason"] for piece in pieces][-1] == expected.choices[0].finish_reason


def test_a_stop_sequence_is_cut_off_unless_asked_for(server: ServerProcess) -> None:
    whole = text(server, prompt="The quick brown", max_length=40)
    stop = whole[5:8]
    assert text(server, prompt="The quick brown", max_length=40, stop_sequence=[stop, ""]) == whole[: whole.index(stop)]
    shown = text(server, prompt="The quick brown", max_length=40, stop_sequence=[stop], trim_stop=False)
    assert shown == whole[: whole.index(stop)] + stop


def test_pictures(server: ServerProcess, client: openai.OpenAI) -> None:
    red = picture("rgb", (200, 10, 10))
    messages: Any = ask("What is this?", data_url(red))
    expected = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12, temperature=0)
    images = [base64.b64encode(red).decode()]
    template = "USER: {}What is this?\nASSISTANT:"
    assert text(server, prompt=template.format("<image>\n"), images=images) == expected.choices[0].message.content
    in_front = text(server, prompt=template.format(""), images=images)
    assert in_front == text(server, prompt="<image>\n" + template.format(""), images=images)
    status, body = post(server, GENERATE, SILLY_TAVERN | {"prompt": "Hi", "images": images * 2})
    assert (status, set(body), set(body["detail"])) == (400, {"detail"}, {"msg", "type"})
    assert "At most 1 image" in body["detail"]["msg"]


def test_tokens_are_counted(server: ServerProcess) -> None:
    _, expected = post(server, "/v1/tokenize", {"prompt": "The quick brown"})
    _, counted = post(server, "/api/extra/tokencount", {"prompt": "The quick brown"})
    assert counted == {"value": expected["count"], "ids": expected["tokens"]}
    assert post(server, "/api/extra/tokencount", {"prompt": ""})[1] == {"value": 0, "ids": []}


def test_a_generation_can_be_looked_at_and_ended(server: ServerProcess) -> None:
    fields = {"prompt": "The quick brown", "max_length": 4000, "bypass_eos": True, "use_default_badwordsids": True}
    pieces = stream(server, **fields, genkey="KCPP1")
    first = next(pieces)["token"]
    assert post(server, "/api/extra/abort", {"genkey": "KCPP2"})[1]["success"] == "false"
    _, found = post(server, "/api/extra/generate/check", {"genkey": "KCPP1"})
    assert found["results"][0]["text"].startswith(first)
    assert post(server, "/api/extra/abort", {"genkey": "KCPP1"})[1] == {"success": "true", "done": "true"}
    rest = list(pieces)
    assert rest[-1]["finish_reason"] == "stop"
    assert post(server, "/api/extra/generate/check", {"genkey": "KCPP1"})[1] == {"results": []}


def test_whoever_waits_for_an_ended_generation_gets_what_it_said(server: ServerProcess) -> None:
    answers = []
    fields = {"prompt": "The quick brown", "max_length": 4000, "bypass_eos": True, "genkey": "KCPP3"}
    waiting = threading.Thread(target=lambda: answers.append(text(server, **fields)))
    waiting.start()
    while not post(server, "/api/extra/generate/check", {"genkey": "KCPP3"})[1]["results"]:
        assert waiting.is_alive()
    with urllib.request.urlopen(server.url + "/api/extra/abort", b"", timeout=30) as response:  # as SillyTavern asks
        assert json.load(response)["success"] == "true"
    waiting.join(30)
    [answer] = answers
    assert len(answer) < 4000


def test_an_answer_keeps_to_a_grammar(server: ServerProcess) -> None:
    assert text(server, prompt="Yes or no?", grammar='root ::= "yes" | "no"') in ("yes", "no")


def test_errors_have_kobolds_form(server: ServerProcess) -> None:
    for fields, part in (({"temperature": -1}, "temperature must be"), ({"grammar": "root ::= ("}, "grammar")):
        status, body = post(server, GENERATE, SILLY_TAVERN | {"prompt": "Hi"} | fields)
        assert (status, set(body["detail"])) == (400, {"msg", "type"})
        assert part in body["detail"]["msg"]
    status, body = post(server, "/api/v1/nothing/", {})
    assert status == 404
    assert "no such path" in body["detail"]["msg"]

"""SillyTavern's own server with its Kobold connection, asked as its page asks it."""

import json
import os
import urllib.request
from pathlib import Path

import pytest
from tests.clients.answers import GREETING, MODEL, QUESTION, is_answer
from tests.clients.own_server import own_server
from tests.e2e import server_process

SILLYTAVERN = Path(__file__).with_name("node_modules") / "sillytavern"
PRESETS = SILLYTAVERN / "default" / "content" / "presets" / "kobold"
PROMPT = f"USER: {GREETING}\nASSISTANT:"


@pytest.fixture(scope="module")
def kobold(tmp_path_factory):
    """A server that wants no key, as the connection sends none."""
    server_process.COMMAND = os.environ["SERVER_COMMAND"]
    with server_process.running(tmp_path_factory.mktemp("server") / "log", "demo", *server_process.SMALL) as server:
        yield server


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """POST to SillyTavern; gives the open response."""
    folder = tmp_path_factory.mktemp("sillytavern")
    data = ["--dataRoot", str(folder / "data"), "--configPath", str(folder / "config.yaml")]
    switches = ["--disableCsrf", "--browserLaunchEnabled", "false", "--listen", "false"]
    with own_server(["node", "server.js", *data, *switches], SILLYTAVERN, folder / "log", "/version") as url:

        def call(path, body):
            request = urllib.request.Request(
                url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            return urllib.request.urlopen(request, timeout=120)

        yield call


def asked(kobold, **fields):
    """What the page sends, with the settings of a preset of SillyTavern's."""
    preset = json.loads((PRESETS / "Deterministic.json").read_text())
    preset["temperature"] = preset.pop("temp")
    fixed = {
        "gui_settings": False, "max_context_length": 2048, "max_length": 40, "singleline": False, "can_abort": True,
        "stop_sequence": ["\nUSER:"], "streaming": False, "api_server": f"{kobold.url}/api",
    }  # fmt: skip
    return preset | fixed | {"prompt": PROMPT} | fields


def tokens(response):
    for line in response:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))["token"]


def test_text(kobold, call):
    with call("/api/backends/kobold/status", {"api_server": f"{kobold.url}/api"}) as response:
        found = json.load(response)
    assert found == {"koboldUnitedVersion": "1.2.5", "koboldCppVersion": "KoboldCpp", "model": MODEL}
    with call("/api/backends/kobold/generate", asked(kobold)) as response:
        assert json.load(response)["results"][0]["text"].strip()


def test_image(kobold, call, picture_url):
    fields = {"api": "koboldcpp", "server_url": kobold.url, "model": MODEL, "prompt": QUESTION, "image": picture_url}
    with call("/api/openai/caption-image", fields) as response:
        assert is_answer(json.load(response)["caption"])


def test_stream(kobold, call):
    with call("/api/backends/kobold/generate", asked(kobold)) as response:
        whole = json.load(response)["results"][0]["text"]
    with call("/api/backends/kobold/generate", asked(kobold, streaming=True)) as response:
        pieces = list(tokens(response))
    assert "".join(pieces) == whole
    assert len(pieces) > 1


def test_stream_that_is_left_is_ended(kobold, call):
    endless = "root ::= [a-z]{3000}"
    response = call("/api/backends/kobold/generate", asked(kobold, streaming=True, max_length=3500, grammar=endless))
    next(tokens(response))
    kobold.wait_for_metric("num_requests_running", 1)
    response.close()
    kobold.wait_for_metric("num_requests_running", 0, within_s=5)


def test_structured(kobold, call):
    with call("/api/backends/kobold/generate", asked(kobold, grammar='root ::= "yes" | "no"')) as response:
        assert json.load(response)["results"][0]["text"] in ("yes", "no")

"""The `llm` command, with a model of its own configuration file."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.answers import GREETING, QUESTION, Weather, is_answer
from tests.clients.conftest import KEY


def command(url: str, tmp_path: Path):
    """The command with a configuration of its own."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: here\n  model_name: demo\n  api_base: {url}/v1\n  api_key_name: here\n  vision: true\n"
        "  supports_schema: true\n  supports_tools: true\n"
    )
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path)}

    def run(*args: str) -> str:
        command = [str(Path(sys.executable).with_name("llm")), "-m", "here", "--key", KEY, *args]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def llm(url, tmp_path):
    return command(url, tmp_path)


def test_text(llm):
    assert llm("--no-stream", GREETING).strip()


def test_stream(llm):
    assert llm(GREETING).strip()


def test_image(llm, picture, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(base64.b64decode(picture))
    assert is_answer(llm(QUESTION, "-a", str(path)))


def test_structured(llm):
    Weather.model_validate_json(llm("--schema", json.dumps(Weather.model_json_schema()), GREETING))


def test_tools(caller_url, tmp_path):
    llm = command(caller_url, tmp_path)
    code = 'def weather(city: str) -> str:\n    "The weather of a city."\n    return f"Sunny in {city}."\n'
    for mode in ([], ["--no-stream"]):
        assert llm(*mode, "--functions", code, GREETING).strip() == "It is sunny in Paris."

"""LiteLLM's proxy in front of the server, asked with the `openai` package."""

import sys
from pathlib import Path

import openai
import pytest
from tests.clients import test_openai as asked
from tests.clients.conftest import KEY
from tests.clients.own_server import own_server


@pytest.fixture(scope="module")
def proxy(url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "config.yaml").write_text(
        "model_list:\n  - model_name: demo\n    litellm_params:\n      model: hosted_vllm/demo\n"
        f"      api_base: {url}/v1\n      api_key: {KEY}\n"
    )
    command = [str(Path(sys.executable).with_name("litellm")), "--config", "config.yaml", "--host", "127.0.0.1"]
    key = {"LITELLM_MASTER_KEY": KEY}
    with own_server(command, folder, folder / "log", "/health/readiness", key) as proxy:
        yield f"{proxy}/v1"


@pytest.fixture
def client(proxy):
    return openai.OpenAI(base_url=proxy, max_retries=0)


test_text = asked.test_text
test_image = asked.test_image
test_stream = asked.test_stream
test_structured = asked.test_structured
test_tools = asked.test_tools


def test_too_long(client):
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": asked.TOO_LONG}])

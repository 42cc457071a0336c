"""The examples of the user's document, as written but for the address and the picture's URL."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.server_process import SMALL, ServerProcess, environment, running

import aphrodite

MODEL = "llava-hf/llava-1.5-7b-hf"
DEMO = Path(aphrodite.__file__).with_name("demo_model")
TEMPLATE = Path(__file__).parents[2] / "examples/chat_templates/llava.jinja"


@pytest.fixture(scope="module", params=["tiny", "demo"] if DEMO.is_dir() else ["tiny"])
def seed_server(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    model = "demo" if request.param == "demo" else str(checkpoint)
    args = ("--chat-template", str(TEMPLATE), "--served-model-name", MODEL, "--allowed-image-hosts", "127.0.0.1")
    with running(tmp_path_factory.mktemp("seed") / "log", model, *SMALL, *args) as server:
        yield server


def test_python_example(seed_server: ServerProcess, images: str) -> None:
    from openai import OpenAI

    openai_api_key = "EMPTY"
    openai_api_base = f"{seed_server.url}/v1"
    client = OpenAI(
        api_key=openai_api_key,
        base_url=openai_api_base,
    )
    chat_response = client.chat.completions.create(
        model="llava-hf/llava-1.5-7b-hf",
        messages=[{
            "role": "user",
            "content": [
                # NOTE: The prompt formatting with the image token `<image>` is not needed
                # since the prompt will be processed automatically by the API server.
                {"type": "text", "text": "What's in this image?"},
                {
                    "type": "image_url",
                    "image_url": {
                        "url": f"{images}/jpeg",
                    },
                },
            ],
        }],
    )  # fmt: skip
    client.close()
    print("Chat response:", chat_response)  # noqa: T201 - as the document does
    assert chat_response.choices[0].message.content
    assert chat_response.choices[0].finish_reason in ("stop", "length")


def test_curl_example(seed_server: ServerProcess, images: str) -> None:
    body = """{
        "model": "llava-hf/llava-1.5-7b-hf",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What'\\''s in this image?"},
                    {
                        "type": "image_url",
                        "image_url": {
                            "url": "IMAGE"
                        }
                    }
                ]
            }
        ]
    }""".replace("IMAGE", f"{images}/jpeg")
    command = f"""curl -sS -X POST "{seed_server.url}/v1/chat/completions" -H "Content-Type: application/json" \\
    -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -d '{body}'"""
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment(), check=True, timeout=120)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_chat_command(seed_server: ServerProcess, media: Path) -> None:
    command = ["aphrodite", "chat", "--image", str(media / "grey.png"), "--url", seed_server.url, "--max-tokens", "8"]
    from tests.e2e.server_process import COMMAND

    command[0] = COMMAND
    once = subprocess.run(
        [*command, "What is it?"], capture_output=True, text=True, env=environment(), check=True, timeout=120
    )
    talk = subprocess.run(
        command,
        input="What is it?\nAnd now?\n",
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
        timeout=120,
    )
    assert once.stdout.strip()
    assert talk.stdout.startswith("> " + once.stdout)
    assert talk.stdout.count("> ") >= 3

"""What is wrong with pictures and prompts, told by a server of a family, and under the field's own name."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.server_process import SMALL, ServerProcess, running
from tests.e2e.test_chat import data_url
from tests.e2e.test_errors import check_error, post
from tests.parity.checkpoints import SEEING
from transformers import AutoTokenizer

CHAT, TEXT, RESPONSES, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize"
PLACES = {"qwen2.5-vl": "<|image_pad|>", "gemma3": "<start_of_image>", "idefics3": "<image>"}


@pytest.fixture(scope="module", params=PLACES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SEEING[name](tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    args = ("--served-model-name", "tiny", "--max-model-len", "40")
    with running(folder / "log", str(folder), *SMALL, *args) as process:
        yield process


def png(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(file, "PNG")
    return data_url(file.getvalue())


def parts(text: str, *urls: str) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *images]}]


def test_pictures_in_chats(server: ServerProcess, name: str) -> None:
    def ask(text: str, *urls: str) -> tuple[int, Any]:
        return post(server, CHAT, {"model": "tiny", "max_tokens": 1, "messages": parts(text, *urls)})

    large = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    check_error(ask("x", png(804, 4)), 400, "too thin, 804x4", "messages")
    check_error(ask("x", png(20, 17), png(20, 17)), 400, "At most 1 image", "messages")
    refused = ask(large, png(200, 170))
    check_error(refused, 400, "maximum context length is 40 tokens. However, you requested ", "messages")
    assert " of them for images; 1 for the answer" in refused[1]["error"]["message"]
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": png(804, 4)}]
    asked = {"model": "tiny", "input": [{"role": "user", "content": content}]}
    check_error(post(server, RESPONSES, asked), 400, "too thin, 804x4", "input")
    status, answered = ask(PLACES[name])  # what a user spells is text, without an image, too
    assert status == 200
    assert answered["usage"]["prompt_tokens_details"]["image_tokens"] == 0


def test_prompts(server: ServerProcess, name: str, folder: Path) -> None:
    def complete(prompt: Any) -> tuple[int, Any]:
        return post(server, TEXT, {"model": "tiny", "max_tokens": 1, "prompt": prompt})

    spelt = post(server, TOKENIZE, {"model": "tiny", "prompt": PLACES[name]})[1]["tokens"]
    plain = post(server, TOKENIZE, {"model": "tiny", "prompt": "x"})[1]["tokens"]
    assert len(spelt) > len(plain)  # no token of its own
    status, answered = complete(PLACES[name])
    assert (status, answered["usage"]["prompt_tokens"]) == (200, len(spelt))
    check_error(complete("0 " * 60), 400, "maximum context length is 40 tokens", "prompt")
    check_error(complete([1] * 40), 400, "you requested 41 tokens", "prompt")
    check_error(complete([10**6]), 400, "outside the vocabulary", "prompt")
    place_id = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(PLACES[name])
    check_error(complete([place_id]), 400, "the token of an image, and text completions take none", "prompt")
    check_error(post(server, TOKENIZE, {"model": "tiny", "prompt": "0 " * 60}), 400, "maximum context", "prompt")

"""What an operator decides, and learns when the engine cannot be kept alive."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.builders import tiny_qwen_vl
from tests.e2e.server_process import COMMAND, SMALL, environment, running
from tests.e2e.test_chat import data_url
from tests.e2e.test_errors import check_error, post

import aphrodite

TEMPLATE = "{% for message in messages %}USER: {{ message.content }}\nASSISTANT:{% endfor %}"


def test_templates_from_requests_where_the_operator_trusts_them(tmp_path: Path) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "chat_template": TEMPLATE}
    with running(tmp_path / "log", "demo", *SMALL, "--trust-request-chat-template") as server:
        status, answer = post(server, "/v1/chat/completions", body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].strip()


def test_settings_of_the_image_processor_from_requests_where_the_operator_allows_them(tmp_path: Path) -> None:
    tiny_qwen_vl(tmp_path / "model")
    content = [{"type": "image_url", "image_url": {"url": data_url(noise(90, 60))}}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 2}

    def ask(settings: Any) -> tuple[int, Any]:
        return post(server, "/v1/chat/completions", body | {"mm_processor_kwargs": settings})

    args = ("--served-model-name", "tiny", "--max-resized-pixels", "3000")
    with running(tmp_path / "log", str(tmp_path / "model"), *SMALL, *args) as server:
        answers = [ask(settings) for settings in (None, {}, {"min_pixels": 64, "max_pixels": 1024}, {})]
        assert {status for status, _ in answers} == {200}
        counts = [answer["usage"]["prompt_tokens_details"]["image_tokens"] for _, answer in answers]
        assert counts[0] == counts[1] == counts[3] > 2 * counts[2] > 0
        for settings, part, param in (
            ({"pixels": 9}, "the model's image processor has no pixels to set; it has", "mm_processor_kwargs"),
            ({"size": [1]}, "does not take {'size': [1]}", "mm_processor_kwargs"),
            ({"size": {"a": "b" * 999}}, "longer than 1000 characters", "mm_processor_kwargs"),
            ([1], "must be", "mm_processor_kwargs"),
            ({"min_pixels": 4000, "max_pixels": 5000}, "it may have 3000, the limit that --max-resized", "messages"),
        ):
            check_error(ask(settings), 400, part, param)
        completion = {"model": "tiny", "prompt": "Hi", "mm_processor_kwargs": {"max_pixels": 64}}
        check_error(post(server, "/v1/completions", completion), 400, "is not supported", "mm_processor_kwargs")


def noise(width: int, height: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "aphrodite.sock"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))  # left behind by a server that was killed
    with running(tmp_path / "log", "demo", *SMALL, "--uds", str(path)) as server:
        assert server.url == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b'{"status":"ok"}')
        second = subprocess.run(
            [COMMAND, "run", "demo", *SMALL, "--uds", str(path)],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
            check=False,
        )
        assert (second.returncode, second.stderr.splitlines()[-1]) == (
            2,
            f"aphrodite: Cannot listen on {path}, where another server does; choose another --uds.",
        )
        assert server.stop() == 0
    assert not path.exists()


def test_an_engine_that_dies_again_and_again_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path / "log", "demo", *SMALL) as server:
        deadline_s = time.monotonic() + 90
        while server.process.poll() is None:
            assert time.monotonic() < deadline_s, server.log
            for pid in server.engine_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        assert server.process.returncode == 1
        assert "The engine died 5 times" in server.log


def test_the_start_tells_what_was_started(tmp_path: Path) -> None:
    """Each number as the server says it elsewhere, too."""
    with running(tmp_path / "log", "demo", *SMALL) as server:
        log = server.log
        [model] = json.loads(server.get("/v1/models")[1])["data"]
        paths = json.loads(server.get("/openapi.json")[1])["paths"]
    assert f"Aphrodite {aphrodite.__version__} loads demo, llava (clip_vision_model, llama)." in log
    cache = re.search(
        r"KV cache: (\d+) blocks of (\d+) tokens, (\d+) tokens in all. max_model_len is (\d+) tokens; "
        r"(\d+) requests of that length fit at once, of at most (\d+) that run",
        log,
    )
    assert cache is not None
    num_blocks, block_size, num_tokens, max_model_len, num_fitting, most = map(int, cache.groups())
    assert num_tokens == num_blocks * block_size
    assert num_fitting == min(most, num_blocks // -(-max_model_len // block_size))
    assert max_model_len == model["max_model_len"]
    assert re.search(r"Runs on cpu in (float32|bfloat16) \(.+\), by .+, \d+ threads?\.", log)
    assert server.url in log
    told = re.search(r"Paths: (.*)", log)
    assert told is not None
    assert {path for path in paths if "{" not in path} <= set(told[1].split(", "))

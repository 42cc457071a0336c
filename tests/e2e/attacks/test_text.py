"""Much text, and much work to be ordered by few words."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.attacks.promise import MODEL, besiege, http_post, promise_kept, send
from tests.e2e.server_process import ServerProcess

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL} | fields).encode()


def chat(text: str) -> bytes:
    return body(messages=[{"role": "user", "content": text}])


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "10 MB of text": (COMPLETIONS, lambda: body(prompt="the picture " * 800_000)),
    "30 MB of text in a message": (CHAT, lambda: chat("the picture " * 2_500_000)),
    "3 million special ids, n = 8": (COMPLETIONS, lambda: body(prompt=[[2] * 3_000_000], n=8)),
    "a stop string of 3 MB, n = 4": (COMPLETIONS, lambda: body(prompt="Hello", stop="ab" * 1_500_000, n=4)),
    "64 stop strings of 30 kB, n = 16": (
        COMPLETIONS,
        lambda: body(prompt="Hello", stop=["a" * 30_000 + str(index) for index in range(64)], n=16),
    ),
    "a schema of 5,000 optional properties": (
        COMPLETIONS,
        lambda: body(
            prompt="Hello", guided_json={"properties": {str(index): {"type": "null"} for index in range(5000)}}
        ),
    ),
    "a schema 300 deep": (
        COMPLETIONS,
        lambda: body(prompt="Hello", guided_json='{"items":' * 300 + "true" + "}" * 300),
    ),
    "a grammar of 10,000 brackets": (
        COMPLETIONS,
        lambda: body(prompt="Hello", guided_grammar="start: " + "(" * 10_000 + '"a"' + ")" * 10_000),
    ),
    "echo of 256 prompts, n = 16, streamed": (
        COMPLETIONS,
        lambda: body(prompt=["Hello"] * 256, n=16, echo=True, logprobs=5, stream=True),
    ),
}


@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=[pytest.mark.attack] if name.startswith("30 MB") else []) for name in REFUSED]
)
def test_what_is_refused(demo: ServerProcess, attack: str) -> None:
    path, make = REFUSED[attack]
    request = http_post(path, make())
    with promise_kept(demo, attack):
        assert {send(demo, request)[0] for _ in range(4)} == {400}


ANSWERED: dict[str, dict[str, Any]] = {
    "echo of 32 prompts, n = 16, streamed": {
        "prompt": ["Hello, what is this?"] * 32,
        "n": 16,
        "echo": True,
        "logprobs": 5,
        "max_tokens": 2,
        "stream": True,
    },
    "n = 128, 8,192 characters of stop strings": {
        "prompt": "Hello",
        "n": 128,
        "max_tokens": 64,
        "temperature": 1,
        "ignore_eos": True,
        "stop": ["a" * 127 + chr(200 + index) for index in range(64)],
    },
}


@pytest.mark.attack
@pytest.mark.parametrize("attack", ANSWERED)
def test_what_is_answered(demo: ServerProcess, attack: str) -> None:
    request = http_post(COMPLETIONS, body(**ANSWERED[attack]))
    with promise_kept(demo, attack):
        assert send(demo, request, timeout_s=300)[0] == 200


@pytest.mark.attack
def test_64_prompts_that_fill_the_context(demo: ServerProcess) -> None:
    prompts = [[10 + index, *[9] * 900] for index in range(64)]
    request = http_post(COMPLETIONS, body(prompt=prompts, max_tokens=1))
    with promise_kept(demo, "64 prompts that fill the context"):
        assert send(demo, request, timeout_s=300)[0] == 200


@pytest.mark.attack
def test_1024_prompts_in_one_request(demo: ServerProcess) -> None:
    prompts = [[10 + index % 500, 10 + index // 500, *[9] * 50] for index in range(1024)]
    request = http_post(COMPLETIONS, body(prompt=prompts, max_tokens=100, ignore_eos=True))
    with promise_kept(demo, "1,024 prompts in one request"):
        while (status := send(demo, request, timeout_s=600)[0]) == 429:
            pass  # they fill the queue to the last place, in which another user's request may be
        assert status == 200


@pytest.mark.attack
def test_100_requests_of_128_completions(demo: ServerProcess) -> None:
    asked = body(prompt="Hello", n=128, max_tokens=400, temperature=1, ignore_eos=True, stream=True)
    request = http_post(COMPLETIONS, asked, "Connection: close")
    with promise_kept(demo, "100 requests of 128 completions"):
        statuses = besiege(demo, [request] * 100)
    print("statuses:", {status: statuses.count(status) for status in set(statuses)})
    assert set(statuses) <= {200, 429, 503}


@pytest.mark.attack
def test_histories_that_are_one_repetition(demo: ServerProcess) -> None:
    """Every place of it is looked at for each of 512 answers, in every step."""
    others = [token_id for token_id in range(768) if token_id != 40]
    asked: dict[str, Any] = {"no_repeat_ngram_size": 64, "dry_multiplier": 0.0001, "custom_token_bans": others}
    request = http_post(
        COMPLETIONS,
        body(prompt=[40] * 900, n=128, max_tokens=100, ignore_eos=True, stream=True, **asked),
        "Connection: close",
    )
    with promise_kept(demo, "512 answers to 900 equal tokens"):
        statuses = besiege(demo, [request] * 4)
    assert set(statuses) <= {200, 429}

"""The server over the JAX backend: one life of it, beside the server over torch."""

from pathlib import Path
from typing import Any

import openai
import pytest
from tests import compiled_programs
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import SMALL, environment, running
from tests.e2e.test_chat import NUM_IMAGE_TOKENS, answer, ask, data_url
from tests.e2e.test_errors import CHAT, HELLO, check_error, post
from tests.e2e.test_lifecycle import Streams

ARGS = ("--backend", "jax_tpu", "--max-num-seqs", "4", "--max-num-batched-tokens", "64", "--served-model-name", MODEL)
MESSAGES = ask("What is this?", data_url(picture("rgb")))


def test_a_servers_life(checkpoint: Path, client: openai.OpenAI, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """One server for all, as it compiles its programs when it starts."""
    settings = compiled_programs.settings(pytestconfig)
    env = environment(**{name.upper(): str(value) for name, value in settings.items()})
    with running(tmp_path / "log", str(checkpoint), *SMALL, *ARGS, env=env) as server:
        with openai.OpenAI(api_key="-", base_url=f"{server.url}/v1", max_retries=0, timeout=60) as ours:
            says_as_torch(ours, client)
            streams_what_it_says(ours)
        status, body = post(server, CHAT, HELLO | {"messages": MESSAGES * 2})
        check_error((status, body), 400, "At most 1 image may be provided in one prompt, got 2.", "messages")
        assert post(server, CHAT, HELLO)[0] == 200
        streams = Streams(server, 3, max_tokens=100)
        streams.wait_until_under_way()
        assert server.stop() == 0
        assert streams.join() == ["length"] * 3
        assert "Traceback" not in server.log


def says_as_torch(ours: openai.OpenAI, torchs: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"temperature": 0, "logprobs": True, "top_logprobs": 3}
    said, expected = (answer(client, MESSAGES, **fields) for client in (ours, torchs))
    assert said.choices[0].message.content == expected.choices[0].message.content
    assert said.choices[0].finish_reason == expected.choices[0].finish_reason
    assert said.usage.prompt_tokens_details.image_tokens == NUM_IMAGE_TOKENS
    assert said.usage.completion_tokens == expected.usage.completion_tokens
    tokens, others = ([token.logprob for token in found.choices[0].logprobs.content] for found in (said, expected))
    assert tokens == pytest.approx(others, abs=1e-4)


def streams_what_it_says(client: openai.OpenAI) -> None:
    for fields in ({}, {"n": 3, "temperature": 1.0, "seed": 7}):
        whole = answer(client, MESSAGES, **fields)
        texts = [""] * len(whole.choices)
        for chunk in answer(client, MESSAGES, stream=True, **fields):
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        assert texts == [choice.message.content for choice in whole.choices]

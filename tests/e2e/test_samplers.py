"""Samplers by the names of each API, through a real server."""

from typing import Any

import openai
import pytest
from tests.e2e.conftest import MODEL
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_errors import post
from tests.e2e.test_kobold import GENERATE, SILLY_TAVERN

PROMPT = "The quick brown"


def complete(client: openai.OpenAI, **fields: Any) -> tuple[str, list[int]]:
    """A text and its tokens."""
    body: dict[str, Any] = {"ignore_eos": True, "return_token_ids": True} | fields
    [choice] = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=12, extra_body=body).choices
    return choice.text, choice.token_ids


# Each leaves the most likely token alone, at whatever temperature.
NARROW: tuple[dict[str, Any], ...] = (
    {"nsigma": 1e-6},
    {"top_a": 1e9},
    {"tfs": 1e-9},
    {"epsilon_cutoff": 1000, "top_k": 1, "sampler_priority": ["epsilon_cutoff", "top_k"]},
    {"smoothing_factor": 1e9},
    {"dynatemp_max": 1e-6},
    {"mirostat_mode": 2, "mirostat_tau": 0},
)


@pytest.mark.parametrize("fields", NARROW, ids=str)
def test_a_narrow_sampler_takes_the_most_likely_token(fields: dict[str, Any], client: openai.OpenAI) -> None:
    assert complete(client, temperature=1.0, seed=3, **fields) == complete(client, temperature=0.0)


def spelling(server: ServerProcess, word: str) -> list[int]:
    status, body = post(server, "/v1/tokenize", {"prompt": word, "add_special_tokens": False})
    assert status == 200
    tokens: list[int] = body["tokens"]
    return tokens


def test_what_is_banned_is_not_said(server: ServerProcess, client: openai.OpenAI) -> None:
    _, tokens = complete(client, temperature=0.0)
    _, others = complete(client, temperature=0.0, custom_token_bans=tokens)
    assert not set(others) & set(tokens)
    _, once = complete(client, temperature=0.0, no_repeat_ngram_size=1)
    assert len(set(once)) == len(once)
    word = spelling(server, "quick")
    talk: dict[str, Any] = {"temperature": 0.0, "custom_token_bans": sorted(set(range(400)) - set(word))}
    talk["logit_bias"] = dict.fromkeys(map(str, word), 100)
    assert set(complete(client, **talk)[1]) <= set(word)
    _, said = complete(client, **talk, bad_words=["quick"])
    assert word not in [said[place : place + len(word)] for place in range(len(said))]


def test_kobolds_names(server: ServerProcess) -> None:
    def text(**fields: Any) -> str:
        status, body = post(server, GENERATE, SILLY_TAVERN | {"prompt": PROMPT, "bypass_eos": True} | fields)
        assert status == 200, body
        return str(body["results"][0]["text"])

    greedy = text()
    drawn: dict[str, Any] = {"temperature": 1.5, "sampler_seed": 5}
    assert text(**drawn) != greedy
    for fields in ({"nsigma": 1e-6}, {"top_a": 1e9}, {"tfs": 1e-9}, {"mirostat": 2, "mirostat_tau": 0}):
        assert text(**drawn, **fields) == greedy
    assert text(**drawn, typical=0.2, xtc_probability=1) == text(**drawn, typical=0.2, xtc_probability=1)
    bias = dict.fromkeys(map(str, spelling(server, "k")), 100)
    assert text(logit_bias=bias).count("k") > text(logit_bias=bias, banned_tokens=["k"]).count("k")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"tfs": 0}, "tfs"),
        ({"sampler_priority": ["top_q"]}, "sampler_priority holds 'top_q'"),
        ({"mirostat_mode": 1}, "mirostat_mode must be 0 or 2"),
        ({"dynatemp_min": 2, "dynatemp_max": 1}, "dynatemp_min must be at most dynatemp_max"),
        ({"custom_token_bans": [10**6]}, "custom_token_bans holds 1000000"),
        ({"bad_words": [""]}, "bad_words"),
        ({"bad_words": ["x"], "response_format": {"type": "json_object"}}, "no token may be left"),
    ],
    ids=str,
)
def test_mistakes_are_told_in_a_sentence(fields: dict[str, Any], part: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=part):
        complete(client, **fields)

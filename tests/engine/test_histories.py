"""Requests whose next token depends on those before it, over the fake model."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.engine.engines import engine_over
from tests.engine.test_constraints import drive
from tests.fakes import EOS, LIMITS, FakeBackend

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import Engine, EngineRequest

IN_FLIGHT = pytest.mark.parametrize("num_in_flight", [1, 2])
PROMPT = list(b"to be or not to be")


def engine_for(num_in_flight: int, **limits: int) -> Engine:
    return engine_over(FakeBackend(replace(LIMITS, max_steps_in_flight=num_in_flight, **limits)), frozenset({EOS}))


def ask(engine: Engine, name: str, prompt: list[int], **sampling: Any) -> None:
    params = SamplingParams(**{"max_tokens": 60, "ignore_eos": True} | sampling)
    engine.add(EngineRequest(name, prompt, params))


def said(engine: Engine) -> dict[str, list[int]]:
    return {
        name: [token for delta in deltas for token in delta.token_ids] for (name, _), deltas in drive(engine).items()
    }


@IN_FLIGHT
def test_no_pair_of_tokens_comes_twice_and_others_say_what_they_say_alone(num_in_flight: int) -> None:
    engine, alone = engine_for(num_in_flight), engine_for(num_in_flight)
    banned = [token for token in range(250) if token % 8]  # so few are left that they would repeat themselves
    for index in range(5):
        ask(engine, f"new {index}", PROMPT[index:], no_repeat_ngram_size=2, custom_token_bans=banned)
        ask(engine, f"free {index}", PROMPT[index:], custom_token_bans=banned)
        ask(alone, f"free {index}", PROMPT[index:], custom_token_bans=banned)
    answers, free = said(engine), said(alone)
    for index in range(5):
        for tokens in (answers[f"new {index}"], answers[f"free {index}"]):
            assert len(tokens) == 60
            assert not set(tokens) & set(banned)
        whole = PROMPT[index:] + answers[f"new {index}"]
        pairs = list(pairwise(whole))
        before = len(PROMPT) - index - 1
        for place in range(before, len(pairs)):
            assert pairs[place] not in pairs[:place]
        assert answers[f"free {index}"] == free[f"free {index}"]
    assert any(answers[f"new {index}"] != free[f"free {index}"] for index in range(5))


@IN_FLIGHT
def test_a_preempted_request_remembers_what_it_said(num_in_flight: int) -> None:
    roomy, tight = engine_for(num_in_flight), engine_for(num_in_flight, num_blocks=26)
    for engine in (roomy, tight):
        for index in range(6):
            ask(engine, str(index), PROMPT[index:], no_repeat_ngram_size=1, max_tokens=40)
    expected, found = said(roomy), said(tight)
    assert tight.stats().num_preemptions > 0
    assert found == expected
    for index in range(6):
        assert len(set(found[str(index)]) - set(PROMPT[index:])) == 40


def test_a_vocabulary_that_is_used_up_begins_again() -> None:
    engine = engine_for(1)
    ask(engine, "all", [1, 2], no_repeat_ngram_size=1, custom_token_bans=list(range(10, 258)), max_tokens=30)
    tokens = said(engine)["all"]
    assert len(tokens) == 30
    assert set(tokens[:8]) == {0, *range(3, 10)}


def test_a_slot_forgets_the_history_of_its_last_request() -> None:
    engine, fresh = engine_for(1, max_num_seqs=1), engine_for(1, max_num_seqs=1)
    ask(engine, "first", PROMPT, no_repeat_ngram_size=1)
    ask(engine, "second", PROMPT, bad_words=[[3, 4]])
    ask(fresh, "second", PROMPT, bad_words=[[3, 4]])
    assert said(engine)["second"] == said(fresh)["second"]

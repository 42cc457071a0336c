"""Answers of a form, over the fake model and its fake grammars: whatever the model wants to say, the form is kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.engine.engines import engine_over
from tests.fakes import EOS, LIMITS, FakeBackend, FakeClock, FakeGrammars, FakeMatcher

from aphrodite.domain.errors import FormError, SamplingParamsError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.request import NOBODY, Owner
from aphrodite.engine.engine import Engine, EngineRequest

CHOICES = ("yes, it is", "yes", "no")
FORM = StructuredOutputs(choice=CHOICES)
IN_FLIGHT = pytest.mark.parametrize("num_in_flight", [1, 2])


def engine_for(num_in_flight: int, **limits: int) -> Engine:
    return engine_over(FakeBackend(replace(LIMITS, max_steps_in_flight=num_in_flight, **limits)), frozenset({EOS}))


def drive(engine: Engine) -> dict[tuple[str, int], list[SequenceDelta]]:
    found: dict[tuple[str, int], list[SequenceDelta]] = {}
    for _ in range(2000):
        if not engine.has_unfinished:
            break
        for delta in engine.step():
            found.setdefault((delta.request_id, delta.index), []).append(delta)
    assert not engine.has_unfinished
    return found


def text(deltas: list[SequenceDelta]) -> str:
    return bytes(token for delta in deltas for token in delta.token_ids if token < 256).decode()


def ask(engine: Engine, name: str, prompt: str, *, owner: Owner = NOBODY, **sampling: object) -> None:
    params: dict[str, Any] = {"max_tokens": 30, "structured_outputs": FORM} | sampling
    engine.add(EngineRequest(name, list(prompt.encode()), SamplingParams(**params), owner=owner))


@IN_FLIGHT
def test_answers_have_their_form_beside_others_that_have_none(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight)
    for index in range(6):
        ask(engine, f"form {index}", f"question {index}", n=2)
        ask(engine, f"free {index}", f"question {index}", structured_outputs=None, max_tokens=5 + index)
    answers = drive(engine)
    alone = engine_for(num_in_flight)
    ask(alone, "free 3", "question 3", structured_outputs=None, max_tokens=8)
    assert [d.token_ids for d in answers["free 3", 0]] == [d.token_ids for d in drive(alone)["free 3", 0]]
    formed = [deltas for (name, _), deltas in answers.items() if name.startswith("form")]
    assert len(formed) == 12
    assert {text(deltas) for deltas in formed} <= set(CHOICES)
    assert {deltas[-1].finish_reason for deltas in formed} == {"stop"}
    assert {deltas[-1].token_ids[0] for deltas in formed} == {EOS}


@IN_FLIGHT
def test_preempted_sequences_go_on_where_they_were(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight, num_blocks=14)
    form = StructuredOutputs(choice=["a" * 24, "b" * 25])
    for index in range(6):
        ask(engine, str(index), f"question {index}", structured_outputs=form)
    assert {text(deltas) for deltas in drive(engine).values()} <= set(form.choice or ())
    assert engine.scheduler.num_preemptions > 0


@IN_FLIGHT
def test_ends_wait_for_min_tokens_while_the_form_allows_it(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight)
    yes, no = StructuredOutputs(choice=["yes", "yes, it is"]), StructuredOutputs(choice=["no"])
    for index in range(8):
        ask(engine, f"free {index}", f"question {index}", structured_outputs=yes)
        ask(engine, f"yes {index}", f"question {index}", structured_outputs=yes, min_tokens=9)
        ask(engine, f"yes {index} on", f"question {index}", structured_outputs=yes, ignore_eos=True)
        ask(engine, f"no {index}", f"question {index}", structured_outputs=no, min_tokens=9, ignore_eos=True)
    answers = {name: text(deltas) for (name, _), deltas in drive(engine).items()}
    assert "yes" in {answer for name, answer in answers.items() if name.startswith("free")}
    assert {answer for name, answer in answers.items() if name.startswith("yes")} == {"yes, it is"}
    assert {answer for name, answer in answers.items() if name.startswith("no")} == {"no"}


@IN_FLIGHT
def test_an_answer_may_end_by_its_length(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight)
    ask(engine, "short", "question", max_tokens=2, structured_outputs=StructuredOutputs(choice=["abcdef"]))
    [deltas] = drive(engine).values()
    assert (text(deltas), deltas[-1].finish_reason) == ("ab", "length")


@IN_FLIGHT
def test_a_form_that_cannot_be_compiled_ends_its_own_request(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight)
    ask(engine, "bad", "question", structured_outputs=StructuredOutputs(regex="a"), n=2)
    ask(engine, "good", "question")
    with pytest.raises(FormError, match="regex"):
        engine.compile(StructuredOutputs(regex="a"))
    answers = drive(engine)
    assert all(isinstance(answers["bad", index][-1].error, FormError) for index in (0, 1))
    assert text(answers["good", 0]) in CHOICES


@IN_FLIGHT
def test_aborted_before_the_form_is_there_and_after(num_in_flight: int) -> None:
    engine = engine_for(num_in_flight)
    for name in ("at once", "later", "stays"):
        ask(engine, name, "question")
    engine.abort("at once")
    for _ in range(3):
        engine.step()
    engine.abort("later")
    assert {name for name, _ in drive(engine)} <= {"later", "stays"}


def test_a_failed_step_ends_the_requests_in_it_only() -> None:
    backend = FakeBackend(replace(LIMITS, max_steps_in_flight=2))
    engine = engine_over(backend, frozenset({EOS}))
    ask(engine, "doomed", "question")
    while not backend.plans:
        engine.step()
    backend.failure = "lost"
    answers = drive(engine)
    assert answers["doomed", 0][-1].error is not None
    ask(engine, "next", "question")
    assert text(drive(engine)["next", 0]) in CHOICES


def test_a_model_without_an_end_has_no_forms() -> None:
    engine = engine_over(FakeBackend(), frozenset())
    with pytest.raises(SamplingParamsError, match="structured_outputs needs a model with an end of sequence"):
        ask(engine, "any", "question")


SLOW = b"this is slow"
SLOW_ENDS = {SLOW[start:] for start in range(1, len(SLOW))}


class AmbiguousGrammars(FakeGrammars):
    """One text takes 20 ms of the clock's time a token, from the second on; notes what steps took."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.durations_s: list[float] = []

    def fill(self, matchers: Sequence[FakeMatcher], bits: np.ndarray) -> dict[int, FormError]:
        self.durations_s.append(0.02 * sum(matcher.left[0] in SLOW_ENDS for matcher in matchers))
        self._clock.time_s += self.durations_s[-1]
        return super().fill(matchers, bits)


@IN_FLIGHT
def test_forms_that_take_long_to_follow_take_turns(num_in_flight: int) -> None:
    clock = FakeClock()
    grammars = AmbiguousGrammars(clock)
    backend = FakeBackend(replace(LIMITS, max_steps_in_flight=num_in_flight, max_num_seqs=32, num_blocks=200))
    engine = engine_over(backend, frozenset({EOS}), grammars, clock)
    slow, fast = (StructuredOutputs(choice=[text]) for text in ("this is slow", "this is fast"))
    for form in (slow, fast):
        engine.compile(form)
    for index in range(20):
        ask(engine, f"many {index}", f"question {index}", owner=Owner("many"), structured_outputs=slow)
    ask(engine, "one", "question", owner=Owner("one"), structured_outputs=slow)
    ask(engine, "fast", "question", owner=Owner("another"), structured_outputs=fast)
    ended_s: dict[str, float] = {}
    answers: dict[str, str] = dict.fromkeys((f"many {index}" for index in range(20)), "") | {"one": "", "fast": ""}
    while engine.has_unfinished:
        for delta in engine.step():
            answers[delta.request_id] += text([delta])
            if delta.finish_reason is not None:
                ended_s[delta.request_id] = clock.now_s()
    assert {answers.pop("fast")} == {"this is fast"}
    assert set(answers.values()) == {"this is slow"}
    # One step finds out what they take; later ones may try whether twice as many can go on.
    assert sorted(grammars.durations_s)[-2] <= 2 * 0.05
    assert max(ended_s["one"], ended_s["fast"]) < min(ended_s[f"many {index}"] for index in range(20))

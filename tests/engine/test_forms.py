"""Turns, memory, and forms that nobody waits for any more."""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeGrammars, FakeMatcher

from aphrodite.domain.errors import FormError, WorkerError
from aphrodite.domain.ports import TokenMatcher
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs
from aphrodite.engine.forms import Forms

MIB = 2**20


class Grammars(FakeGrammars):
    """Choices, whose first word says how many MiB they take; they are checked while `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.begun: list[str] = []
        self.compiled: Counter[str] = Counter()

    def check(self, form: StructuredOutputs) -> CheckedForm:
        assert form.choice is not None
        self.begun.append(form.choice[0])
        assert self.open.wait(10)
        if form.choice[0] == "lost":
            raise WorkerError("No process.")
        return CheckedForm(form, "", int(form.choice[0].split()[0]) * MIB)

    def compile(self, checked: CheckedForm) -> FakeMatcher:
        assert checked.form.choice is not None
        self.compiled[checked.form.choice[0]] += 1
        return super().compile(checked)


@pytest.fixture
def grammars() -> Grammars:
    return Grammars()


@pytest.fixture
def forms(grammars: Grammars) -> Iterator[Forms[str]]:
    made: Forms[str] = Forms(grammars)
    yield made
    grammars.open.set()
    made.close()


def form(words: str) -> StructuredOutputs:
    return StructuredOutputs(choice=[words])


def wait_for(forms: Forms[str], words: str, client: str = "", num_users: int = 1) -> None:
    forms.wait_for(form(words), words, client, num_users)


def ready(forms: Forms[str], num: int) -> list[str]:
    """The next so many that are ready."""
    found: list[str] = []
    ends_s = time.monotonic() + 10
    while len(found) < num and time.monotonic() < ends_s:
        found += [who for who, _ in forms.ready(0.01)]
    assert len(found) == num
    return found


def test_clients_take_turns(forms: Forms[str], grammars: Grammars) -> None:
    grammars.open.clear()
    for words in ("1 a", "1 b", "1 c", "1 d"):
        wait_for(forms, words, "many")
    wait_for(forms, "1 e", "one")
    forms.ready(0)
    grammars.open.set()
    assert set(ready(forms, 5)) == {"1 a", "1 b", "1 c", "1 d", "1 e"}
    assert sorted(grammars.begun[:2]) == ["1 a", "1 e"]


def test_no_more_are_in_use_than_there_is_memory_for(forms: Forms[str]) -> None:
    for words in ("180 a", "180 b"):
        wait_for(forms, words)
    assert set(ready(forms, 2)) == {"180 a", "180 b"}
    wait_for(forms, "180 c")
    wait_for(forms, "1 small")
    assert ready(forms, 1) == ["1 small"]
    assert forms.ready(0.05) == []
    forms.leave(form("180 a"))
    assert ready(forms, 1) == ["180 c"]


def test_what_nobody_uses_is_kept_until_others_need_its_memory(forms: Forms[str], grammars: Grammars) -> None:
    for words in ("180 a", "180 b", "180 a", "180 c", "180 a", "180 b"):
        wait_for(forms, words)
        ready(forms, 1)
        forms.leave(form(words))
    assert grammars.compiled == {"180 a": 1, "180 b": 2, "180 c": 1}  # "180 b" gave way to "180 c"


def test_what_nobody_waits_for_any_more_is_not_begun(forms: Forms[str], grammars: Grammars) -> None:
    grammars.open.clear()
    for words in ("1 a", "1 b", "1 gone", "1 c"):
        wait_for(forms, words)
    forms.ready(0)
    forms.leave(form("1 gone"))
    grammars.open.set()
    assert set(ready(forms, 3)) == {"1 a", "1 b", "1 c"}
    assert not forms
    assert "1 gone" not in grammars.begun


def test_what_was_left_while_it_was_checked_can_be_had_later(forms: Forms[str], grammars: Grammars) -> None:
    grammars.open.clear()
    wait_for(forms, "1 a", num_users=2)
    forms.ready(0)
    forms.leave(form("1 a"))
    forms.leave(form("1 a"))
    assert not forms
    wait_for(forms, "1 a")
    grammars.open.set()
    assert ready(forms, 1) == ["1 a"]


def test_who_waits_hears_that_nothing_can_be_checked(forms: Forms[str], grammars: Grammars) -> None:
    wait_for(forms, "lost")
    outcomes: list[tuple[str, TokenMatcher | Exception]] = []
    while not outcomes:
        outcomes += forms.ready(0.01)
    assert isinstance(outcomes[0][1], WorkerError)
    forms.leave(form("lost"))
    with pytest.raises(WorkerError):
        forms.compile(form("lost"))
    assert grammars.begun == ["lost", "lost"]  # it may be there the next time


def test_a_failure_is_kept(grammars: Grammars) -> None:
    class Refusing(Grammars):
        def check(self, form: StructuredOutputs) -> CheckedForm:
            super().check(form)
            raise FormError("No.")

    refusing = Refusing()
    forms: Forms[str] = Forms(refusing)
    for _ in range(3):
        with pytest.raises(FormError):
            forms.compile(form("1 a"))
    passed_by = []
    for _ in range(3):
        wait_for(forms, "1 a")
        [(_, error)] = forms.ready(1)
        assert isinstance(error, FormError)
        passed_by.append(len(list(traceback.walk_tb(error.__traceback__))))
    assert len(set(passed_by)) == 1  # else it would keep all whom it ever passed by
    forms.close()
    assert refusing.begun == ["1 a"]


MOVES = st.lists(st.tuples(st.sampled_from(["wait", "leave", "look"]), st.integers(0, 9), st.sampled_from("ab")))


@given(moves=MOVES)
def test_all_who_stay_are_served_within_the_memory_there_is(moves: list[tuple[str, int, str]]) -> None:
    grammars = Grammars()
    forms: Forms[str] = Forms(grammars)
    users: Counter[int] = Counter()
    served: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def look() -> None:
        served.update(who for who, _ in forms.ready(0))
        assert forms._num_bytes <= 512 * MIB

    for move, number, client in moves:
        words = f"{20 * number} {number}"
        if move == "wait":
            forms.wait_for(form(words), words, client, 1)
            users[number] += 1
            asked[words] += 1
        elif move == "leave" and users[number]:
            forms.leave(form(words))
            users[number] -= 1
        look()
    for number in sorted(users):  # with a form at a time there is room for each
        for other in users:
            while other != number and users[other]:
                forms.leave(form(f"{20 * other} {other}"))
                users[other] -= 1
        if users[number]:
            ends_s = time.monotonic() + 10
            while forms and time.monotonic() < ends_s:
                served.update(who for who, _ in forms.ready(0.01))
            assert not forms
    forms.close()
    assert all(served[words] <= asked[words] for words in served)

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.generation.stopping import StopChecker, StopSearch, StopStrings, Verdict
from aphrodite.domain.prompting.sampling_params import SamplingParams

EOS = frozenset({2, 5})

_TEXT = st.text("ab<é", max_size=30)
_STOPS = st.lists(st.text("ab<é", min_size=1, max_size=5), max_size=4)


def _cut(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def _plain_search(text: str, stops: list[str], num_exempt: int = 0) -> tuple[int, str] | None:
    """End and string of the first match, by looking at every beginning of the whole text."""
    for end in range(num_exempt + 1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return end, stop
    return None


@given(text=_TEXT, stops=_STOPS, cuts=st.lists(st.integers(0, 99), max_size=6), include=st.booleans())
def test_any_cut_gives_what_a_plain_search_gives(text: str, stops: list[str], cuts: list[int], include: bool) -> None:
    strings, shown, matched = StopSearch(StopStrings(stops), include), "", None
    for piece in _cut(text, cuts):
        match = strings.push(piece)
        shown += match.text
        if match.matched is not None:
            matched = match.matched
            break
    else:
        shown += strings.flush()
    expected = _plain_search(text, stops)
    if expected is None:
        assert (shown, matched) == (text, None)
    else:
        end, stop = expected
        assert (shown, matched) == (text[: end if include else end - len(stop)], stop)


@given(text=_TEXT, stops=_STOPS, cuts=st.lists(st.integers(0, 99), max_size=6))
def test_only_a_beginning_of_a_stop_string_is_held_back(text: str, stops: list[str], cuts: list[int]) -> None:
    strings, seen, shown = StopSearch(StopStrings(stops)), "", ""
    for piece in _cut(text, cuts):
        match = strings.push(piece)
        if match.matched is not None:
            return
        seen, shown = seen + piece, shown + match.text
        beginnings = {stop[:length] for stop in stops for length in range(len(stop))} | {""}
        assert seen == shown + max((b for b in beginnings if seen.endswith(b)), key=len)


@given(before=_TEXT, after=_TEXT, stops=_STOPS)
def test_no_match_ends_before_min_tokens(before: str, after: str, stops: list[str]) -> None:
    strings = StopSearch(StopStrings(stops))
    first = strings.push(before, min_tokens_reached=False)
    assert first.matched is None
    second = strings.push(after)
    expected = _plain_search(before + after, stops, num_exempt=len(before))
    shown = first.text + second.text + ("" if second.matched else strings.flush())
    if expected is None:
        assert (shown, second.matched) == (before + after, None)
    else:
        end, stop = expected
        assert (shown, second.matched) == ((before + after)[: end - len(stop)], stop)


def test_the_longest_of_equal_ends_wins() -> None:
    match = StopSearch(StopStrings(["b", "ab"])).push("xab")
    assert (match.text, match.matched) == ("x", "ab")


def test_a_long_stop_string_costs_no_more_per_character() -> None:
    strings = StopSearch(StopStrings(["a" * 200_000 + "b"]))
    for _ in range(20_000):
        assert strings.push("aaaa").text == ""
    assert strings.push("c").text == "a" * 80_000 + "c"


def test_completions_share_what_they_look_for_and_not_how_far_they_are() -> None:
    strings = StopStrings(["stop"])
    one, other = StopSearch(strings), StopSearch(strings)
    assert one.push("a st").text == "a "
    assert other.push("op").text == "op"
    assert one.push("op").matched == "stop"


@pytest.mark.parametrize(
    ("settings", "token_id", "num_output_tokens", "verdict"),
    [
        ({}, 7, 1, None),
        ({}, 2, 1, Verdict("stop")),
        ({}, 5, 1, Verdict("stop")),
        ({"ignore_eos": True}, 2, 1, None),
        ({"ignore_eos": True, "stop_token_ids": [2]}, 2, 1, Verdict("stop", 2)),
        ({"stop_token_ids": [7, 2]}, 7, 1, Verdict("stop", 7)),
        ({"stop_token_ids": [7, 2]}, 2, 1, Verdict("stop")),
        ({"min_tokens": 3}, 2, 2, None),
        ({"min_tokens": 3}, 2, 3, Verdict("stop")),
        ({"min_tokens": 3, "stop_token_ids": [7]}, 7, 2, None),
        ({"max_tokens": 4}, 7, 3, None),
        ({"max_tokens": 4}, 7, 4, Verdict("length")),
        ({"max_tokens": 4}, 2, 4, Verdict("stop")),
        ({"max_tokens": 4, "min_tokens": 4, "ignore_eos": True}, 2, 4, Verdict("length")),
        ({"max_tokens": None}, 7, 89, None),
        ({"max_tokens": None}, 7, 90, Verdict("length")),
        ({"max_tokens": 1000}, 7, 90, Verdict("length")),
    ],
)
def test_a_token_ends_the_sequence_or_not(
    settings: dict[str, object], token_id: int, num_output_tokens: int, verdict: Verdict | None
) -> None:
    checker = StopChecker(SamplingParams(**settings), EOS, max_model_len=100, num_prompt_tokens=10)  # type: ignore[arg-type]
    assert checker.check_token(token_id, num_output_tokens) == verdict

from typing import Any

import pytest

from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.repetition import with_token_ids
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs


def spell(text: str) -> list[int]:
    return [ord(character) for character in text]


def test_words_become_the_tokens_that_they_have_with_and_without_a_blank() -> None:
    params = with_token_ids(SamplingParams(bad_words=["no", "x", [7, 8]]), spell)
    assert params.bad_words == ((110, 111), (32, 110, 111), (120,), (32, 120), (7, 8))
    assert params.banned_token_ids == (120,)
    assert params.has_history
    assert with_token_ids(params, spell) is params


def test_a_sequence_breaker_is_the_last_token_of_its_text() -> None:
    params = with_token_ids(SamplingParams(dry_multiplier=0.8, dry_sequence_breakers=["\n", "::", 9]), spell)
    assert params.dry_sequence_breakers == (10, 58, 9)
    off = SamplingParams()
    assert with_token_ids(off, spell) is off


def test_what_looks_at_the_tokens_before_and_what_does_not() -> None:
    assert not SamplingParams(custom_token_bans=[3], bad_words=[[4]]).has_history
    for fields in ({"no_repeat_ngram_size": 1}, {"dry_multiplier": 0.1}, {"bad_words": [[4, 5]]}):
        history: dict[str, Any] = fields
        assert SamplingParams(**history).has_history
        assert SamplingParams(**history).has_bias
    assert SamplingParams(custom_token_bans=[3]).has_bias


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("custom_token_bans", [5, "5", [-1], ["x"], None]),
        ("bad_words", ["word", [""], [" "], [5], [[]], [[-1]], ["x"] * 257, ["x" * 9000], None]),
        ("dry_sequence_breakers", ["x", [""], [1.5], [-1], [None], ["x"] * 257]),
        ("dry_base", [0.5, 101]),
        ("dry_allowed_length", [0]),
        ("no_repeat_ngram_size", [-1, 1.5]),
    ],
)
def test_wrong_values_are_refused_by_name(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SamplingParamsError, match=field):
            SamplingParams(**{field: value})


@pytest.mark.parametrize(
    "bans", [{"custom_token_bans": [1]}, {"bad_words": ["x"]}, {"no_repeat_ngram_size": 2}], ids=str
)
def test_bans_and_a_list_of_what_is_allowed_exclude_each_other(bans: dict[str, Any]) -> None:
    for allowed in ({"allowed_token_ids": [1, 2]}, {"structured_outputs": StructuredOutputs(choice=["a"])}):
        others: dict[str, Any] = allowed
        with pytest.raises(SamplingParamsError, match="no token may be left"):
            SamplingParams(**bans, **others)


def test_what_the_vocabulary_does_not_hold_or_would_not_be_left_of_it_is_refused() -> None:
    for params in (SamplingParams(custom_token_bans=[10]), SamplingParams(bad_words=[[3, 10]])):
        params.check_vocabulary(11)
        with pytest.raises(SamplingParamsError, match="holds 10, the vocabulary has 10"):
            params.check_vocabulary(10)
    with pytest.raises(SamplingParamsError, match="must leave a token"):
        SamplingParams(custom_token_bans=[0, 1], bad_words=[[2]], stop_token_ids=[3]).check_vocabulary(4)
    with pytest.raises(SamplingParamsError, match="token ids here"):
        SamplingParams(bad_words=["x"]).check_vocabulary(4)

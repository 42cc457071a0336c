"""Phi-3 with LongRoPE: one set of frequencies an engine, chosen by the contexts that it is for."""

import pytest
from tests.parity.cases import TEXT_CASES, TEXTS, Case
from tests.parity.checkpoints import LONGROPES
from tests.parity.comparison import MAX_TOKENS, assert_answers
from tests.parity.fixture_types import OpenLlm, References

LONGER = (*TEXT_CASES[1:], Case(" ".join(TEXTS * 3)))


@pytest.mark.parametrize("name", LONGROPES)
def test_contexts_longer_than_the_first_training(name: str, open_llm: OpenLlm, reference: References) -> None:
    """Transformers chooses by the length of each text: the same where all are longer from the start."""
    theirs, original = reference(name), LONGROPES[name]
    cases = [case for case in LONGER if len(theirs.answer(case, MAX_TOKENS).prompt_token_ids) > original]
    assert cases
    with open_llm(name) as llm:
        assert_answers(llm, theirs, cases)


@pytest.mark.parametrize("name", ["phi3-longrope-of-half"])
def test_contexts_of_the_first_training(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name, max_model_len=LONGROPES[name]) as llm:
        assert_answers(llm, reference(name), TEXT_CASES)


def test_the_choice_is_told(open_llm: OpenLlm, caplog: pytest.LogCaptureFixture) -> None:
    told = "turns by its frequencies for contexts beyond 100 tokens, short ones as well; max_model_len=100"
    for max_model_len, is_told in ((None, True), (101, True), (100, False)):
        caplog.clear()
        with caplog.at_level("INFO"), open_llm("phi3-longrope-of-half", max_model_len=max_model_len):
            assert (told in caplog.text) == is_told

"""Every supported pairing of tower and decoder, every decoder alone, and the variants of each."""

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.checkpoints import FAMILIES, FEATURES, LLAVA_VARIANTS, PAIRINGS, TEXT_VARIANTS
from tests.parity.comparison import assert_answers
from tests.parity.fixture_types import OpenLlm, References


@pytest.mark.parametrize("name", PAIRINGS)
def test_pairing(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), (*IMAGE_CASES, *TEXT_CASES))


@pytest.mark.parametrize("name", [*FAMILIES, *TEXT_VARIANTS])
def test_decoder_alone(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), TEXT_CASES)


@pytest.mark.parametrize("name", LLAVA_VARIANTS)
def test_variant_with_pictures(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), (*IMAGE_CASES[:2], TEXT_CASES[1]))


@pytest.mark.parametrize("name", FEATURES)
def test_feature_layers_and_strategies(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), IMAGE_CASES[:2])

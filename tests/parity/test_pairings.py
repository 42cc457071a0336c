"""Every supported pairing of tower and decoder, every decoder alone, and the variants of each."""

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.checkpoints import FAMILIES, FEATURES, LLAVA_VARIANTS, PAIRINGS, TEXT_VARIANTS
from tests.parity.comparison import GREEDY, assert_answers
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.selection import sparing

# Each decoder once, each tower twice.
PAIRINGS_ON_JAX = ("clip-llama", "siglip-mistral", "clip-qwen2", "siglip-qwen3")
# Every field of DecoderSpec in one family; what another family does with it is read in domain/architectures.
TEXTS_ON_JAX = {*TEXT_VARIANTS} - {"qwen2-all-windows", "qwen2-tied", "qwen3-window", "qwen3-tied-linear-rope"}
CHUNKS_ON_JAX = ("glm", "glm4", "phi3", "ernie4_5")  # which no model that sees has within it
# What changes the tower or the projector; the decoder's variants are run alone.
LLAVAS_ON_JAX = (
    "llava-window", "llava-tied", "llava-no-projector-bias", "llava-projector-quick-gelu", "clip-gelu", "siglip-gelu",
    "clip-odd-patches",
)  # fmt: skip
FEATURES_ON_JAX = ("clip-default-[0]", "clip-full--1", "siglip-default-[-3, 3, 1]", "siglip-full-[0, -1]")


@pytest.mark.parametrize("name", sparing(PAIRINGS, PAIRINGS_ON_JAX))
def test_pairing(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), (*IMAGE_CASES, *TEXT_CASES))


@pytest.mark.parametrize("name", sparing((*FAMILIES, *TEXT_VARIANTS), TEXTS_ON_JAX))
def test_decoder_alone(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), TEXT_CASES)


@pytest.mark.parametrize("name", sparing(FAMILIES, CHUNKS_ON_JAX))
def test_decoder_in_chunks_and_cached(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name, max_num_batched_tokens=13, block_size=8) as llm:
        assert_answers(llm, reference(name), TEXT_CASES)
        cached = [output.num_cached_tokens for output in assert_answers(llm, reference(name), TEXT_CASES, GREEDY)]
    assert any(cached)


@pytest.mark.parametrize("name", sparing(LLAVA_VARIANTS, LLAVAS_ON_JAX))
def test_variant_with_pictures(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), (*IMAGE_CASES[:2], TEXT_CASES[1]))


@pytest.mark.parametrize("name", sparing(FEATURES, FEATURES_ON_JAX))
def test_feature_layers_and_strategies(name: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_answers(llm, reference(name), IMAGE_CASES[:2])

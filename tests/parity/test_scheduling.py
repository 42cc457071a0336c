"""However the work is cut into steps, the answers stay transformers'."""

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.comparison import GREEDY, assert_answers
from tests.parity.fixture_types import OpenLlm, References

from aphrodite import LLM

CASES = (*IMAGE_CASES, *TEXT_CASES)


@pytest.mark.parametrize("max_num_batched_tokens", [1, 3, 7, 16, 33, 64])
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen3", "llava-qwen2-window"])
def test_chunked_prefill(name: str, max_num_batched_tokens: int, open_llm: OpenLlm, reference: References) -> None:
    """A picture takes 16 tokens here: chunks of 1, 3 and 7 end inside of it, wherever it starts."""
    with open_llm(name, max_num_batched_tokens=max_num_batched_tokens) as llm:
        assert_answers(llm, reference(name), CASES)


@pytest.mark.parametrize("block_size", [1, 8, 16, 32])
@pytest.mark.parametrize("max_num_batched_tokens", [5, 2048])
def test_block_sizes(block_size: int, max_num_batched_tokens: int, open_llm: OpenLlm, reference: References) -> None:
    with open_llm("clip-llama", block_size=block_size, max_num_batched_tokens=max_num_batched_tokens) as llm:
        for _ in range(2):  # the second time from the prefix cache
            assert_answers(llm, reference("clip-llama"), CASES, GREEDY)


@pytest.mark.parametrize("max_num_seqs", [1, 3])
def test_fewer_slots_than_prompts(max_num_seqs: int, open_llm: OpenLlm, reference: References) -> None:
    with open_llm("clip-llama", max_num_seqs=max_num_seqs) as llm:
        assert_answers(llm, reference("clip-llama"), CASES * 2)


def test_alone_and_in_a_batch(llava: LLM, reference: References) -> None:
    for case in CASES:
        assert_answers(llava, reference("clip-llama"), [case])
    assert_answers(llava, reference("clip-llama"), CASES * 5)

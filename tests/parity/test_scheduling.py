"""However the work is cut into steps, the answers stay transformers'."""

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.comparison import GREEDY, assert_answers
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.installed import install
from tests.parity.selection import sparing

from aphrodite import LLM

CASES = (*IMAGE_CASES, *TEXT_CASES)


@pytest.mark.parametrize("max_num_batched_tokens", sparing([1, 3, 7, 16, 33, 64], [1, 7]))
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen3", "llava-qwen2-window"])
def test_chunked_prefill(name: str, max_num_batched_tokens: int, open_llm: OpenLlm, reference: References) -> None:
    """A picture takes 16 tokens here: chunks of 1, 3 and 7 end inside of it, wherever it starts."""
    with open_llm(name, max_num_batched_tokens=max_num_batched_tokens) as llm:
        assert_answers(llm, reference(name), CASES)


@pytest.mark.parametrize("block_size", sparing([1, 8, 16, 32], [1, 32]))
@pytest.mark.parametrize("chunks", [{}, {"max_num_batched_tokens": 5}], ids=str)
def test_block_sizes(block_size: int, chunks: dict[str, int], open_llm: OpenLlm, reference: References) -> None:
    with open_llm("clip-llama", block_size=block_size, **chunks) as llm:
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


@pytest.mark.parametrize("max_steps_in_flight", [1, 2])
@pytest.mark.parametrize("chunks", [{}, {"max_num_batched_tokens": 7}], ids=str)
@pytest.mark.parametrize("num_pictures", [1, 2])
def test_room_for_few_pictures(
    num_pictures: int, chunks: dict[str, int], max_steps_in_flight: int,
    backend: str, monkeypatch: pytest.MonkeyPatch, open_llm: OpenLlm, reference: References,
) -> None:  # fmt: skip
    """Features are forgotten and computed anew when the device holds no more of them."""
    theirs = reference("clip-llama")
    name = install(
        monkeypatch,
        backend,
        num_feature_rows=16 * num_pictures,
        max_steps_in_flight=max_steps_in_flight,
    )
    with open_llm("clip-llama", backend=name, **chunks) as llm:
        for _ in range(2):
            assert_answers(llm, theirs, CASES * 2)

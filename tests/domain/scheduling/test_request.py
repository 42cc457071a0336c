import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Request


def make_request(num_prompt_tokens: int, max_total_tokens: int) -> Request:
    prompt = list(range(num_prompt_tokens))
    return Request("name", prompt, SamplingParams(), seed=0, order=(0, 0), max_total_tokens=max_total_tokens)


@given(num_prompt_tokens=st.integers(1, 9), num_output_tokens=st.integers(0, 300), spare=st.integers(0, 3))
def test_tokens_grow_one_by_one(num_prompt_tokens: int, num_output_tokens: int, spare: int) -> None:
    request = make_request(num_prompt_tokens, num_prompt_tokens + num_output_tokens + spare)
    for token_id in range(1000, 1000 + num_output_tokens):
        request.append_token(token_id)
    assert request.output_token_ids.tolist() == list(range(1000, 1000 + num_output_tokens))
    assert request.tokens[: request.num_prompt_tokens].tolist() == list(range(num_prompt_tokens))
    assert len(request.tokens) <= request.max_total_tokens


@given(st.lists(st.lists(st.integers(1, 99), max_size=5)))
def test_blocks_grow_and_are_given_up_together(pieces: list[list[int]]) -> None:
    request = make_request(3, 9)
    for piece in pieces:
        request.append_blocks(piece)
    planned = request.block_ids[: request.num_blocks]
    blocks = [block_id for piece in pieces for block_id in piece]
    assert planned.tolist() == blocks
    assert request.take_blocks() == blocks
    request.append_blocks([7] * len(blocks))
    assert planned.tolist() == blocks, "a plan keeps the table that it was made with"


@pytest.mark.parametrize(
    ("num_computed", "num_in_flight", "runnable"),
    [(0, 0, 5), (3, 0, 2), (5, 1, 1), (6, 2, 0)],  # of 5 known tokens; 7 are the most
)
def test_runnable_tokens_are_those_without_kv(num_computed: int, num_in_flight: int, runnable: int) -> None:
    request = make_request(5, 7)
    request.num_computed, request.num_in_flight = num_computed, num_in_flight
    assert request.num_runnable == runnable

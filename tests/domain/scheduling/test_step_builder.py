import numpy as np
import pytest

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.slot_table import SlotTable
from aphrodite.domain.scheduling.step import DecodeRows, RowPlan
from aphrodite.domain.scheduling.step_builder import StepBuilder

ENDS = (2, 5)


def make_request(num_prompt_tokens: int, **sampling: object) -> Request:
    request = Request(
        "name",
        list(range(100, 100 + num_prompt_tokens)),
        SamplingParams(**sampling),  # type: ignore[arg-type]
        seed=7,
        order=(0, 0),
        max_total_tokens=200,
        stop_token_ids=ENDS,
    )
    request.slot = 3
    request.append_blocks([5, 6, 7])
    return request


def make_slots() -> SlotTable:
    return SlotTable(num_slots=4, num_blocks=8, block_size=4)


def plan(request: Request, num_tokens: int) -> RowPlan:
    step = StepBuilder(100, make_slots())
    step.add(request, num_tokens, None)
    return step.build().plan.prompts[0]


def plan_decode(slots: SlotTable, *requests: Request) -> DecodeRows:
    step = StepBuilder(100, slots)
    for request in requests:
        step.add_decode(request)
    return step.build().plan.decode


def commit(request: Request, token_id: int) -> None:
    request.append_token(token_id)
    request.num_in_flight -= 1


def test_rows_of_one_token_come_first_and_keep_their_requests() -> None:
    step = StepBuilder(20, make_slots())
    long, single, longer, other_single = (make_request(count) for count in (4, 1, 9, 1))
    for request in (long, single, longer, other_single):
        step.add(request, request.num_tokens, None)
    schedule = step.build()
    assert schedule.requests == (single, other_single, long, longer)
    assert [row.num_tokens for row in schedule.plan.prompts] == [1, 1, 4, 9]
    assert step.budget == 5


def test_only_the_row_that_reaches_the_last_token_samples() -> None:
    request = make_request(10)
    first, second = plan(request, 6), plan(request, 4)
    assert (first.start, first.token_ids.tolist(), first.samples) == (0, list(range(100, 106)), False)
    assert (second.start, second.token_ids.tolist(), second.samples) == (6, list(range(106, 110)), True)
    assert (request.num_computed, request.num_in_flight, request.num_rows_in_flight) == (10, 1, 2)


def test_a_sampled_token_is_left_to_the_slot() -> None:
    slots, request = make_slots(), make_request(6, temperature=0.7, top_k=5, logprobs=2, logit_bias={3: 1.0})
    slots.take(request)
    slots.append_blocks(request, [5, 6, 7])
    plan(request, 6)
    first, second = plan_decode(slots, request), plan_decode(slots, request)
    assert (request.num_computed, request.num_in_flight, request.num_rows_in_flight) == (8, 3, 3)
    row = RowPlan(3, 6, 1, None, np.array([5, 6], np.int32), True, request.sampling, 7)
    for name in ("slots", "starts", "block_table", "sampling", "suppressed"):
        assert getattr(first, name).tolist() == getattr(DecodeRows.of([row]), name).tolist(), name
    assert second.starts.tolist() == [7]


def test_a_slot_holds_what_its_last_request_does() -> None:
    slots, old, new = make_slots(), make_request(9), make_request(2, temperature=0.0)
    slots.take(old)
    slots.append_blocks(old, [5, 6, 7])
    slots.leave(3)
    new.take_blocks()
    new.append_blocks([4])
    slots.take(new)
    slots.append_blocks(new, [4])
    long = make_request(8)
    long.slot = 1
    slots.take(long)
    slots.append_blocks(long, [5, 6, 7])
    plan(new, 2)
    plan(long, 8)
    assert plan_decode(slots, new, long).block_table.tolist() == [[4, 0, 0], [5, 6, 7]]


def test_ends_are_not_sampled_before_min_tokens() -> None:
    slots, request = make_slots(), make_request(4, min_tokens=2)
    slots.take(request)
    assert plan(request, 4).suppressed_token_ids == ENDS
    suppressed = [plan_decode(slots, request).suppressed.tolist() for _ in range(3)]  # all of them in flight
    assert suppressed == [[[0, token_id] for token_id in ENDS], [], []]


def test_ends_are_suppressed_in_rows_that_sample_only() -> None:
    assert plan(make_request(4, min_tokens=2), 3).suppressed_token_ids == ()


def test_ends_are_not_suppressed_where_nothing_else_is_allowed() -> None:
    assert plan(make_request(4, min_tokens=2, allowed_token_ids=[5]), 4).suppressed_token_ids == ()
    assert plan(make_request(4, min_tokens=2, allowed_token_ids=[5, 6]), 4).suppressed_token_ids == ENDS


@pytest.mark.parametrize("sampling", [{"presence_penalty": 1.0}, {"logit_bias": {3: 1.0}}])
def test_a_slot_is_told_once_what_it_samples_with(sampling: dict[str, object]) -> None:
    request = make_request(6, **sampling)
    assert plan(request, 3).slot_start is None
    start = plan(request, 3).slot_start
    assert start is not None
    assert start.prompt_token_ids.tolist() == list(range(100, 106))
    assert start.output_token_ids.tolist() == []


def test_a_slot_is_told_again_after_a_preemption() -> None:
    request = make_request(6, frequency_penalty=1.0)
    plan(request, 6)
    commit(request, 55)
    request.take_blocks()
    start = plan(request, 7).slot_start
    assert start is not None
    assert start.output_token_ids.tolist() == [55]


def test_a_plain_request_tells_its_slot_nothing() -> None:
    assert plan(make_request(6), 6).slot_start is None


def test_every_prompt_token_but_the_first_is_a_target_once() -> None:
    request = make_request(6, prompt_logprobs=0)
    targets = [plan(request, count).prompt_targets for count in (1, 3, 1, 1)]
    assert [None if t is None else t.tolist() for t in targets] == [[101], [102, 103, 104], [105], None]


def test_a_plan_does_not_change_with_its_request() -> None:
    request = make_request(6, presence_penalty=1.0)
    row = plan(request, 6)
    tokens, blocks = row.token_ids.tolist(), row.block_ids.tolist()
    for token_id in range(100):
        request.append_token(token_id)
    request.take_blocks()
    request.append_blocks([9, 9, 9])
    assert (row.token_ids.tolist(), row.block_ids.tolist()) == (tokens, blocks)
    assert row.slot_start is not None
    assert row.slot_start.output_token_ids.tolist() == []

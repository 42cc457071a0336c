"""Owners take turns: whoever asks for little is not kept waiting by those who ask for much."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.scheduling.driver import Driver
from tests.fakes import LIMITS

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.request import NOBODY, Owner, Request, RequestStatus

LONGEST = 24  # tokens of one sequence
owners = st.builds(Owner, st.sampled_from("abc"), st.sampled_from("12"))
# owner, number of sequences, tokens of a prompt, tokens of an answer
crowds = st.lists(st.tuples(owners, st.integers(1, 8), st.integers(1, 12), st.integers(1, 12)), max_size=4)
priorities = st.lists(st.integers(-2, 2), min_size=1, max_size=4)
few_limits = st.builds(
    lambda slots, spare, budget, in_flight: replace(
        LIMITS,
        num_blocks=1 + LONGEST // 4 + spare,
        max_num_seqs=slots,
        max_num_batched_tokens=budget,
        max_steps_in_flight=in_flight,
    ),
    st.integers(2, 5),
    st.sampled_from([0, 3, 100]),
    st.sampled_from([4, 9, 100]),
    st.integers(1, 2),
)


def add_crowd(driver: Driver, crowd: list[tuple[Owner, int, int, int]], urgency: Sequence[int] = (0,)) -> None:
    """`urgency` has the priorities of the crowd's requests, over and over."""
    for index, (owner, count, prompt, answer) in enumerate(crowd):
        for _ in range(count):
            number = len(driver.expected)
            words = [10 + number % 40, 10 + number // 40, *[10] * 10]  # so that no two begin alike
            priority = urgency[index % len(urgency)]
            driver.add(words[:prompt], max_tokens=answer, min_tokens=answer, owner=owner, priority=priority)


def steps_until_started(driver: Driver, request: Request) -> int:
    for count in range(2_000):
        if request.num_cached_tokens >= 0:  # admitted once
            return count
        driver.step()
    raise AssertionError("the request never started")


@settings(deadline=None, max_examples=80)
@given(limits=few_limits, crowd=crowds, urgency=priorities, steps=st.integers(0, 8))
def test_a_newcomer_waits_for_few_admissions_however_many_wait_before_it_and_however_urgent(
    limits: BackendLimits, crowd: list[tuple[Owner, int, int, int]], urgency: list[int], steps: int
) -> None:
    driver = Driver(limits)
    add_crowd(driver, crowd, urgency)
    for _ in range(steps):
        driver.step()
    admitted_before = {request for request in driver.expected if request.num_cached_tokens >= 0}
    newcomer = driver.add([55, 55, 55], max_tokens=2, min_tokens=2, owner=Owner("newcomer", "1"))
    steps_until_started(driver, newcomer)
    admitted = {request for request in driver.expected if request.num_cached_tokens >= 0} - admitted_before
    assert len(admitted - {newcomer}) <= len({owner for owner, *_ in crowd}) + limits.max_num_seqs
    driver.drain()


@settings(deadline=None, max_examples=50)
@given(limits=few_limits, crowd=crowds, urgency=priorities, steps=st.integers(1, 30))
def test_no_slot_stays_empty_while_somebody_waits(
    limits: BackendLimits, crowd: list[tuple[Owner, int, int, int]], urgency: list[int], steps: int
) -> None:
    roomy = replace(limits, num_blocks=10_000, max_num_batched_tokens=10_000)
    driver = Driver(roomy)
    add_crowd(driver, crowd, urgency)
    for _ in range(steps):
        num_live = len([request for request in driver.live if request.num_rows_in_flight == 0])
        num_preemptions = driver.scheduler.num_preemptions
        schedule = driver.scheduler.schedule()
        if driver.scheduler.num_preemptions == num_preemptions:
            assert driver.scheduler.num_running >= min(num_live, roomy.max_num_seqs)
        if schedule is not None:
            driver._launch(schedule)
        while driver._in_flight and (schedule is None or len(driver._in_flight) >= roomy.max_steps_in_flight):
            driver._commit(*driver._in_flight.popleft())
    driver.drain()


@settings(deadline=None, max_examples=50)
@given(limits=few_limits, crowd=crowds, urgency=priorities)
def test_nobody_starves_beside_a_stream_of_newcomers(
    limits: BackendLimits, crowd: list[tuple[Owner, int, int, int]], urgency: list[int]
) -> None:
    driver = Driver(limits)
    add_crowd(driver, crowd, urgency)
    crowd_requests = list(driver.live)
    for number in range(1_500):
        if not any(request in driver.live for request in crowd_requests):
            break
        if number % 3 == 0:
            driver.add([50, 10 + number % 50], max_tokens=3, min_tokens=3, owner=Owner("stream", str(number)))
        driver.step()
    else:
        raise AssertionError("some requests never finish")
    driver.drain()


@pytest.mark.parametrize("client", ["big", "other"])
def test_one_sequence_of_a_small_request_runs_at_once_beside_a_large_one(client: str) -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000))
    add_crowd(driver, [(Owner("big", "1"), 100, 8, 12)])
    for _ in range(3):
        driver.step()
    assert driver.scheduler.num_running == LIMITS.max_num_seqs
    small = driver.add([55] * 3, max_tokens=4, min_tokens=4, owner=Owner(client, "2"))
    assert steps_until_started(driver, small) == 1
    for _ in range(6):
        driver.step()
    assert small.finished
    assert driver.scheduler.num_preemptions == 1
    driver.drain()


def test_clients_share_the_slots_however_many_requests_each_has() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_num_batched_tokens=1_000))
    add_crowd(driver, [(Owner("one", "1"), 20, 4, 12), *[(Owner("many", str(index)), 1, 4, 12) for index in range(20)]])
    driver.step()
    running = [request.owner.client for request in driver.live if request.status is RequestStatus.RUNNING]
    assert (running.count("one"), running.count("many")) == (4, 4)
    driver.drain()


def test_a_long_prompt_leaves_room_in_each_step_for_a_short_one() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_num_batched_tokens=8, max_model_len=400))
    driver.add([10] * 300, max_tokens=1, owner=Owner("long", "1"))
    driver.step()
    short = driver.add([11, 12], max_tokens=1, owner=Owner("short", "1"))
    driver.step()
    assert short.finished
    driver.drain()


def test_blocks_that_one_owner_holds_are_shared_too() -> None:
    driver = Driver(replace(LIMITS, num_blocks=25), enable_prefix_caching=False)  # 96 tokens
    add_crowd(driver, [(Owner("big", "1"), 8, 12, 12)])
    for _ in range(8):
        driver.step()
    small = driver.add([55] * 8, max_tokens=4, min_tokens=4, owner=Owner("small", "1"))
    for _ in range(8):
        driver.step()
    assert small.finished
    driver.drain()


def test_who_needs_more_than_there_is_lets_few_by_and_comes_to_its_turn() -> None:
    driver = Driver(replace(LIMITS, num_blocks=13), enable_prefix_caching=False)  # 48 tokens
    driver.add([10] * 12, max_tokens=12, min_tokens=12, owner=Owner("old", "1"))
    driver.step()
    large = driver.add([11] * 40, max_tokens=1, owner=Owner("large", "1"))
    for number in range(400):
        driver.add([12, 13], max_tokens=4, min_tokens=4, owner=Owner("small", str(number)))
        driver.step()
    assert large.finished
    driver.drain()


def test_of_a_single_owner_who_comes_first_is_served_first() -> None:
    driver = Driver(LIMITS)
    add_crowd(driver, [(NOBODY, 40, 8, 3)])
    driver.drain()
    assert driver.finished == sorted(driver.finished, key=lambda request: request.order)


def test_who_decodes_and_who_has_a_short_prompt_go_on_beside_a_prompt_of_many_steps() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_model_len=600))
    small = driver.add([50] * 4, max_tokens=8, min_tokens=8, owner=Owner("small", "1"))
    driver.step()
    driver.add([51] * 500, max_tokens=1, owner=Owner("large", "1"))  # 16 steps of 32 tokens
    driver.step()
    late = driver.add([52] * 20, max_tokens=2, min_tokens=2, owner=Owner("late", "1"))
    for _ in range(7):
        driver.step()
    assert small.finished
    assert late.finished
    driver.drain()


def test_a_step_that_others_wait_for_is_short() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_num_batched_tokens=1024, max_model_len=1200))
    driver.scheduler.step_size.note(1024, 1.0)
    driver.add([50] * 1000, max_tokens=1, owner=Owner("large", "1"))
    driver.add([51] * 1000, max_tokens=1, owner=Owner("other", "1"))
    for _ in range(3):
        driver.step()
        assert driver.backend.plans[-1].num_tokens == 128
    driver.drain()


def test_offline_a_step_is_as_large_as_it_may_be() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_num_batched_tokens=1024, max_model_len=1200))
    driver.scheduler.step_size.note(1024, 1.0)
    driver.add([50] * 1000, max_tokens=1)
    driver.step()
    assert driver.backend.plans[-1].num_tokens == 1000
    driver.drain()

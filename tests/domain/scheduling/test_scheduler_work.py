"""What the scheduler itself costs: it touches what it runs, however much waits or is remembered."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.fakes import fake_span

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Owner, Request
from aphrodite.domain.scheduling.scheduler import Scheduler
from aphrodite.domain.scheduling.step import StepResult

NUM_SLOTS = 16
NUM_STEPS = 50


class Arrival(int):
    """A request's place in the line, which counts the comparisons with others."""

    num_comparisons = 0

    def __lt__(self, other: int) -> bool:
        Arrival.num_comparisons += 1
        return super().__lt__(other)

    def __eq__(self, other: object) -> bool:
        Arrival.num_comparisons += 1
        return super().__eq__(other)

    __hash__ = int.__hash__


class Watched(Request):
    """Notes which requests are looked at."""

    __slots__ = ()
    touched: ClassVar[set[int]] = set()

    def __getattribute__(self, name: str) -> Any:
        Watched.touched.add(id(self))
        return super().__getattribute__(name)


def make_scheduler(num_blocks: int = 4096, num_feature_rows: int = 1 << 16) -> Scheduler:
    limits = BackendLimits(
        num_blocks=num_blocks,
        block_size=4,
        max_num_seqs=NUM_SLOTS,
        max_num_batched_tokens=256,
        max_model_len=2048,
        max_steps_in_flight=1,
        num_feature_rows=num_feature_rows,
        bytes_per_number=4,
    )
    return Scheduler(limits, enable_prefix_caching=True)


def make_request(index: int, prompt: list[int], images: tuple[ImageSpan, ...] = (), max_tokens: int = 1000) -> Watched:
    return Watched(
        str(index),
        prompt,
        SamplingParams(max_tokens=max_tokens),
        seed=0,
        order=(Arrival(index), 0),
        max_total_tokens=len(prompt) + max_tokens,
        images=images,
    )


def step(scheduler: Scheduler) -> int:
    """One step, in which everybody samples; the tokens that were run."""
    schedule = scheduler.schedule()
    if schedule is None:
        return 0
    for request, _ in scheduler.commit(schedule, StepResult(np.full(schedule.plan.num_samples, 5, np.int32), None, {})):
        if request.num_tokens == request.max_total_tokens:
            scheduler.finish(request)
    return schedule.plan.num_tokens


def num_instructions(work: Callable[[], object]) -> int:
    """Of the Python interpreter; unlike seconds the same in every run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("shared", [0, 40], ids=["nothing-shared", "begin-alike"])
def test_a_step_looks_at_those_that_run_and_at_no_more_of_10_000_that_wait(shared: int) -> None:
    scheduler = make_scheduler()
    for index in range(10_000):
        scheduler.add(make_request(index, [7] * shared + [8, index % 999, index // 999]))
    while scheduler.num_running < NUM_SLOTS:
        step(scheduler)
    Watched.touched.clear()
    Arrival.num_comparisons = 0
    for _ in range(NUM_STEPS):
        assert step(scheduler) == NUM_SLOTS
    assert scheduler.num_waiting == 10_000 - NUM_SLOTS
    assert len(Watched.touched) == NUM_SLOTS
    assert Arrival.num_comparisons == 0


def test_a_step_costs_the_same_however_many_owners_wait() -> None:
    def cost(num_waiting: int) -> int:
        scheduler = make_scheduler()
        for index in range(num_waiting):
            request = make_request(index, [8, index % 999, index // 999])
            request.owner = Owner("client", str(index))
            scheduler.add(request)
        while scheduler.num_running < NUM_SLOTS:
            step(scheduler)
        return num_instructions(lambda: step(scheduler))

    assert cost(5_000) < 1.1 * cost(50)


def test_who_cannot_be_admitted_holds_up_the_line_without_a_search_through_it() -> None:
    scheduler = make_scheduler(num_blocks=20)
    for index in range(10_000):
        scheduler.add(make_request(index, [8, index % 999, index // 999] * 10, max_tokens=4))
    step(scheduler)
    Watched.touched.clear()
    Arrival.num_comparisons = 0
    step(scheduler)
    assert scheduler.num_running == 2
    assert len(Watched.touched) == 3, "those that run, and the next"
    assert Arrival.num_comparisons < 100


def test_work_for_an_admission_grows_with_the_logarithm_of_those_that_wait() -> None:
    def cost(num_waiting: int) -> int:
        scheduler = make_scheduler()
        for index in range(num_waiting):
            scheduler.add(make_request(index, [8, index % 999, index // 999], max_tokens=1))
        Arrival.num_comparisons = 0
        assert step(scheduler) == 3 * NUM_SLOTS
        return Arrival.num_comparisons

    few, many = cost(100), cost(10_000)
    assert many < 3 * few


def test_a_new_picture_costs_the_same_however_many_are_remembered() -> None:
    def add(scheduler: Scheduler, index: int) -> None:
        span = fake_span(index.to_bytes(16, "little"), start=1, num_tokens=4)
        scheduler.add(make_request(index, [8, 9, 9, 9, 9, 7], (span,), max_tokens=1))

    def cost(num_remembered: int) -> int:
        scheduler = make_scheduler(num_feature_rows=4 * num_remembered)
        for index in range(num_remembered):
            add(scheduler, index)
            step(scheduler)
        assert scheduler.encoder_cache.num_used == scheduler.encoder_cache.num_rows
        add(scheduler, num_remembered)  # takes an old one's place
        return num_instructions(lambda: step(scheduler))

    assert cost(2_000) < 1.1 * cost(20)

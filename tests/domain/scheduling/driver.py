"""Drives a scheduler as the engine does, over the fake backend, and checks every step that it plans."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from tests.fakes import (
    FakeBackend,
    FakePendingStep,
    fake_kv,
    fake_next_token,
    fake_span,
    feature_content,
    token_content,
)

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.errors import StepError
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import NOBODY, Owner, Request, RequestStatus
from aphrodite.domain.scheduling.rope_positions import rope_positions
from aphrodite.domain.scheduling.scheduler import Scheduler
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.step_builder import Schedule

VOCAB_SIZE = 60
IMAGE_TOKEN = 60  # never sampled
STOP_TOKENS = (0, 1, 2)  # an end comes as a surprise every twenty tokens or so


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request gives when it runs alone, without pages, chunks or anything cached."""

    token_ids: list[int]  # the output
    kv: list[int]  # of every position but the last token's


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row of either kind."""

    request: Request
    slot: int
    start: int
    stop: int
    block_ids: np.ndarray


def planned_rows(schedule: Schedule, block_size: int) -> list[PlannedRow]:
    decode, rows = schedule.plan.decode, []
    for index, request in enumerate(schedule.decoding):
        start = int(decode.starts[index])
        blocks = decode.block_table[index, : start // block_size + 1]
        rows.append(PlannedRow(request, int(decode.slots[index]), start, start + 1, blocks))
    for row, request in zip(schedule.plan.prompts, schedule.prompting, strict=True):
        rows.append(PlannedRow(request, row.slot, row.start, row.start + row.num_tokens, row.block_ids))
    return rows


def run_alone(
    prompt: list[int],
    images: tuple[ImageSpan, ...],
    max_tokens: int,
    min_tokens: int,
    *,
    is_prefix_masked: bool = False,
) -> Expected:
    contents = [token_content(token_id) for token_id in prompt]
    for span in images:
        for index in range(span.num_tokens):
            contents[span.start + index] = feature_content(span.image.content_hash, index)
        if span.sees_forward:
            for position in range(span.start, span.stop):
                contents[position] = b"".join(contents[position : span.stop])
    if is_prefix_masked:
        contents = [b"".join(contents[position:]) for position in range(len(contents))]
    positions, offset = rope_positions(len(prompt), images)
    at = np.tile(np.arange(len(prompt)), (3, 1)) if positions is None else positions
    kv: list[int] = []
    for content, position in zip(contents, at.T.tolist(), strict=True):
        kv.append(fake_kv(kv[-1] if kv else 0, content, position))
    token_ids: list[int] = []
    while True:
        token_ids.append(fake_next_token(kv, VOCAB_SIZE, STOP_TOKENS if len(token_ids) < min_tokens else ()))
        if token_ids[-1] in STOP_TOKENS or len(token_ids) == max_tokens:
            return Expected(token_ids, kv)
        kv.append(fake_kv(kv[-1], token_content(token_ids[-1]), [len(kv) + offset] * 3))


def image_prompt(
    words: list[list[int]], images: list[tuple[int, int]], *, forward: int | None = None
) -> tuple[list[int], tuple[ImageSpan, ...]]:
    """Words with an image, its content and its number of tokens, between each two of them.

    An even number is a grid; features of the content `forward` see each other.
    """
    prompt, spans = list(words[0]), []
    for (content, num_tokens), after in zip(images, words[1:], strict=True):
        grid = None if num_tokens % 2 else (2, num_tokens // 2)
        spans.append(fake_span(b"image %d" % content, len(prompt), num_tokens, grid, sees_forward=content == forward))
        prompt += [IMAGE_TOKEN] * num_tokens + after
    return prompt, tuple(spans)


def _place(request: Request) -> tuple[int, int, int]:
    """In the line of its owner."""
    return request.priority, *request.order


class Driver:
    def __init__(self, limits: BackendLimits, enable_prefix_caching: bool = True) -> None:
        self.limits = limits
        self.backend = FakeBackend(limits, VOCAB_SIZE)
        self.scheduler = Scheduler(limits, enable_prefix_caching)
        self.live: list[Request] = []
        self.expected: dict[Request, Expected] = {}
        self.failed: list[Request] = []
        self.finished: list[Request] = []
        self._in_flight: deque[tuple[Schedule, FakePendingStep]] = deque()
        self._doomed: set[Request] = set()  # in a step that failed, which nobody knows yet
        self._slots: dict[Request, int] = {}
        self._num_preemptions = 0
        self._num_added = 0

    def add(
        self,
        prompt: list[int],
        images: tuple[ImageSpan, ...] = (),
        max_tokens: int = 4,
        min_tokens: int = 0,
        owner: Owner = NOBODY,
        *,
        priority: int = 0,
        is_prefix_masked: bool = False,
    ) -> Request:
        request = Request(
            f"request {self._num_added}",
            prompt,
            SamplingParams(temperature=0.0, max_tokens=max_tokens, min_tokens=min_tokens),
            seed=0,
            order=(self._num_added, 0),
            max_total_tokens=len(prompt) + max_tokens,
            stop_token_ids=STOP_TOKENS,
            images=images,
            owner=owner,
            priority=priority,
            is_prefix_masked=is_prefix_masked,
        )
        self._num_added += 1
        self.expected[request] = run_alone(prompt, images, max_tokens, min_tokens, is_prefix_masked=is_prefix_masked)
        self.live.append(request)
        self.scheduler.add(request)
        return request

    def abort(self, request: Request) -> None:
        self.scheduler.finish(request)
        self.live.remove(request)
        self.check_books()

    def step(self) -> bool:
        """One turn of the engine's loop; False when there was nothing to do."""
        waiting_before = {request for request in self.live if request.status is RequestStatus.WAITING}
        num_preemptions = self.scheduler.num_preemptions
        schedule = self.scheduler.schedule()
        preempted = self.scheduler.num_preemptions > num_preemptions
        self._check_order(waiting_before)
        self.check_books()
        if schedule is not None:
            self._check_plan(schedule)
            self._launch(schedule)
        full = len(self._in_flight) >= self.limits.max_steps_in_flight
        if self._in_flight and (schedule is None or full):
            self._commit(*self._in_flight.popleft())
            self.check_books()
            return True
        return schedule is not None or preempted

    def drain(self) -> None:
        """Run to the end, where everything that was taken is given back."""
        for _ in range(2_000):
            if not self.step():
                break
        assert not self.live, "some requests never finish"
        assert self.scheduler.num_waiting == self.scheduler.num_running == 0
        assert self.scheduler.pool.num_free == self.limits.num_blocks - 1
        assert self.scheduler.encoder_cache.can_hold(self.limits.num_feature_rows), "features are still in use"

    def _launch(self, schedule: Schedule) -> None:
        failure = self.backend.failure
        try:
            pending = self.backend.launch(schedule.plan)
        except StepError:
            # A step that reads what a lost one should have written fails with it; nothing else may.
            assert failure == "launch" or self._doomed
            self._fail(schedule)
            return
        self._in_flight.append((schedule, pending))
        if failure is not None:
            self._doomed.update(schedule.requests)
        for row in planned_rows(schedule, self.limits.block_size):
            if row.request not in self._doomed:
                positions = np.arange(row.stop)
                size = self.limits.block_size
                kv = self.backend.kv[row.block_ids[positions // size] * size + positions % size].tolist()
                expected = self.expected[row.request].kv[: len(kv)]  # a row may run past an end that nobody knows yet
                assert kv[: len(expected)] == expected

    def _commit(self, schedule: Schedule, pending: FakePendingStep) -> None:
        try:
            result = pending.result()
        except StepError:
            self._fail(schedule)
            return
        for request, token_id in self.scheduler.commit(schedule, result):
            expected = self.expected[request].token_ids
            assert token_id == expected[request.num_output_tokens - 1]
            if request.num_output_tokens == len(expected):
                self.scheduler.finish(request)
                self.live.remove(request)
                self.finished.append(request)

    def _fail(self, schedule: Schedule) -> None:
        alive = [request for request in schedule.requests if not request.finished]
        assert self.scheduler.fail(schedule) == alive
        for request in alive:
            assert request.finished
            self.live.remove(request)
        self.failed += alive
        self._doomed -= set(schedule.requests) - {r for other, _ in self._in_flight for r in other.requests}

    def check_books(self) -> None:
        """Blocks, slots and counts are those of the running requests, and of nobody else."""
        running = [request for request in self.live if request.status is RequestStatus.RUNNING]
        assert self.scheduler.num_running == len(running)
        assert self.scheduler.num_waiting == len(self.live) - len(running)
        held = [request.block_ids[: request.num_blocks].tolist() for request in running]
        assert all(len(set(blocks)) == len(blocks) for blocks in held)
        used = {block_id for blocks in held for block_id in blocks}
        assert 0 not in used, "block 0 belongs to the padding"
        assert self.scheduler.pool.num_used == len(used)
        assert not any(map(self.scheduler.pool.is_free, used))
        assert len({request.slot for request in running}) == len(running)
        assert all(0 <= request.slot < self.limits.max_num_seqs for request in running)
        if self.scheduler.num_preemptions != self._num_preemptions:  # who was preempted may run again, elsewhere
            self._num_preemptions, self._slots = self.scheduler.num_preemptions, {}
        self._slots = {request: self._slots.get(request, request.slot) for request in running}
        assert all(request.slot == slot for request, slot in self._slots.items()), "a slot moved"
        assert 0 <= self.scheduler.encoder_cache.num_used <= self.limits.num_feature_rows

    def _check_order(self, waiting_before: set[Request]) -> None:
        """Of one owner."""
        last: dict[Owner, tuple[int, int, int]] = {}
        for request in waiting_before:
            if request.status is RequestStatus.RUNNING:
                last[request.owner] = max(_place(request), last.get(request.owner, _place(request)))
        waiting = [request for request in self.live if request.status is RequestStatus.WAITING]
        overtaken = [request for request in waiting if _place(request) < last.get(request.owner, _place(request))]
        assert all(map(self._shares_a_block, overtaken)), (
            "a younger request overtook one that waits for nobody's blocks"
        )

    def _shares_a_block(self, request: Request) -> bool:
        """Whether a running request begins with the same block: KV is chained, so one position tells."""
        last = slice(self.limits.block_size - 1, self.limits.block_size)
        running = [other for other in self.live if other.status is RequestStatus.RUNNING]
        return any(self.expected[other].kv[last] == self.expected[request].kv[last] != [] for other in running)

    def _check_plan(self, schedule: Schedule) -> None:
        plan, size = schedule.plan, self.limits.block_size
        assert 0 < plan.num_tokens <= self.limits.max_num_batched_tokens
        rows = planned_rows(schedule, size)
        assert len({row.slot for row in rows}) == len(rows) == plan.num_rows
        assert sum(row.stop - row.start for row in rows) == plan.num_tokens
        is_chunk = [row.stop - row.start > 1 for row in rows]
        assert is_chunk == sorted(is_chunk), "rows of one token come first"
        holders: dict[int, int] = {}
        for request in self.live:
            for block_id in request.block_ids[: request.num_blocks].tolist():
                holders[block_id] = holders.get(block_id, 0) + 1
        for row in rows:
            assert row.start < row.stop
            assert row.slot == row.request.slot
            assert row.block_ids.tolist() == row.request.block_ids[: row.request.num_blocks].tolist()
            assert len(row.block_ids) == -(-row.stop // size)
            assert all(holders[block_id] == 1 for block_id in row.block_ids[row.start // size :].tolist())
        for index, row in enumerate(rows[: len(plan.decode)]):
            assert not plan.decode.block_table[index, len(row.block_ids) :].any()
            assert row.stop == row.request.num_tokens + row.request.num_in_flight - 1
        self._check_features(plan)

    def _check_features(self, plan: StepPlan) -> None:
        encoded = [image.image.content_hash for image in plan.encode]
        rows = [row for image in plan.encode for row in image.rows.tolist()]
        read = {row for planned in plan.prompts if planned.feature_rows is not None for row in planned.feature_rows}
        assert len(set(encoded)) == len(encoded)
        assert len(set(rows)) == len(rows)
        assert all(read & set(image.rows.tolist()) for image in plan.encode), "features that nobody reads yet"

"""Continuous batching: which tokens of which requests run in the next step."""

import heapq
from bisect import insort
from dataclasses import dataclass

import numpy as np

from aphrodite.domain.scheduling.block_pool import BlockPool
from aphrodite.domain.scheduling.encoder_cache import EncoderCache
from aphrodite.domain.scheduling.prefix_cache import PrefixCache
from aphrodite.domain.scheduling.request import Request, RequestStatus
from aphrodite.domain.scheduling.step import StepResult
from aphrodite.domain.scheduling.step_builder import Schedule, StepBuilder


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What the scheduler must never pass."""

    num_blocks: int
    block_size: int  # tokens
    max_num_seqs: int
    max_num_batched_tokens: int  # of one step
    num_feature_rows: int  # of the feature array


class Scheduler:
    """First come, first served: the oldest requests run, the youngest are preempted when blocks run out.

    A preempted request loses its KV and is run again from its first token; what it generated is kept. A prompt longer
    than the step's budget is run in chunks. Steps may be planned while earlier ones run: a request's sampled tokens
    are then counted as in flight, and its next row reads them on the device.
    """

    def __init__(self, limits: SchedulerLimits, enable_prefix_caching: bool) -> None:
        self.pool = BlockPool(limits.num_blocks)
        self.encoder_cache = EncoderCache(limits.num_feature_rows)
        self.num_preemptions = 0
        self.num_waiting = 0
        self._limits = limits
        self._prefix_cache = PrefixCache(self.pool, limits.block_size) if enable_prefix_caching else None
        self._waiting: list[tuple[tuple[int, int], Request]] = []  # a heap by arrival; aborted ones fall out at the top
        self._running: list[Request] = []  # by arrival
        self._free_slots = list(range(limits.max_num_seqs - 1, -1, -1))

    @property
    def num_running(self) -> int:
        return len(self._running)

    def add(self, request: Request) -> None:
        request.status = RequestStatus.WAITING
        self.num_waiting += 1
        heapq.heappush(self._waiting, (request.order, request))

    def schedule(self) -> Schedule | None:
        """Plan a step; None when nothing can run now."""
        step = StepBuilder(self._limits.max_num_batched_tokens)
        if self._schedule_running(step):
            self._schedule_waiting(step)
        return None if step.is_empty else step.build()

    def commit(self, schedule: Schedule, result: StepResult) -> list[tuple[Request, int]]:
        """Book what a step sampled: (request, new token id) for every request that still wants it."""
        sampled = []
        token_ids = iter(result.token_ids.tolist())
        for row, request in zip(schedule.plan.rows, schedule.requests, strict=True):
            token_id = next(token_ids) if row.samples else None
            request.num_rows_in_flight -= 1
            if request.finished:
                continue
            if token_id is not None:
                request.num_in_flight -= 1
                request.append_token(token_id)
                sampled.append((request, token_id))
            if self._prefix_cache is not None and request.status is RequestStatus.RUNNING:
                self._prefix_cache.register(request, row.start + row.num_tokens)
        return sampled

    def fail(self, schedule: Schedule) -> list[Request]:
        """A step failed: book its images as gone. Returns its requests that were alive, now ended."""
        for encoded in schedule.plan.encode:
            self.encoder_cache.discard(encoded.image.content_hash)
        for request in schedule.requests:
            request.num_rows_in_flight -= 1
        failed = [request for request in schedule.requests if not request.finished]
        for request in failed:
            self.finish(request)
        return failed

    def forget_cache(self) -> None:
        """The backend lost its KV cache and its image features: what runs is run again from its first token."""
        while self._running:
            self._preempt(self._running[-1])
        if self._prefix_cache is not None:
            self._prefix_cache.clear()
        self.encoder_cache.clear()

    def finish(self, request: Request) -> None:
        """End a request, wherever it stands; its blocks are free once more."""
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
            self._release(request)
        elif request.status is RequestStatus.WAITING:
            self.num_waiting -= 1
        request.status = RequestStatus.FINISHED

    def _schedule_running(self, step: StepBuilder) -> bool:
        """Returns whether more may be admitted: not while a request that runs lacks blocks or room for its images."""
        index, num_preemptions, all_fit = 0, self.num_preemptions, True
        while index < len(self._running) and step.budget > 0:
            request = self._running[index]
            wanted = min(request.num_runnable, step.budget)
            num_tokens = self._stop_before_image(request, wanted)
            all_fit = all_fit and num_tokens == wanted
            if num_tokens > 0:
                if not self._grow(request, num_tokens):
                    break  # the request itself, the youngest left, was preempted
                self._run(request, num_tokens, step)
            index += 1
        return all_fit and self.num_preemptions == num_preemptions

    def _grow(self, request: Request, num_tokens: int) -> bool:
        """Allocate the blocks of the next `num_tokens` tokens, preempting the youngest requests for them."""
        needed = self._num_blocks(request.num_computed + num_tokens) - request.num_blocks
        while needed > self.pool.num_free:
            youngest = self._running[-1]
            self._preempt(youngest)
            if youngest is request:
                return False
        self._allocate(request, needed)
        return True

    def _schedule_waiting(self, step: StepBuilder) -> None:
        """Admit in the order of arrival; who waits for blocks that another computes keeps a slot and lets others by."""
        put_off: list[tuple[tuple[int, int], Request]] = []
        while self._waiting and step.budget > 0 and len(self._free_slots) > len(put_off):
            entry = heapq.heappop(self._waiting)
            request = entry[1]
            if request.finished:
                continue
            cached = self._cached_blocks(request)
            if cached is None:
                put_off.append(entry)
            elif request.num_rows_in_flight or not self._admit(request, cached, step):
                put_off.append(entry)
                break
            else:
                self.num_waiting -= 1
        for entry in put_off:
            heapq.heappush(self._waiting, entry)

    def _admit(self, request: Request, cached: list[int], step: StepBuilder) -> bool:
        """Start a waiting request, if there is room for all its tokens and for an image that stands first."""
        revived = sum(self.pool.is_free(block_id) for block_id in cached)
        needed = self._num_blocks(request.num_tokens) - len(cached)
        if needed + revived > self.pool.num_free:
            return False
        request.num_computed = len(cached) * self._limits.block_size
        num_tokens = self._stop_before_image(request, min(request.num_tokens - request.num_computed, step.budget))
        if num_tokens <= 0:
            request.num_computed = 0
            return False
        if request.num_cached_tokens < 0:
            request.num_cached_tokens = request.num_computed
        for block_id in cached:
            self.pool.share(block_id)
        request.append_blocks(cached)
        request.num_registered_blocks = len(cached)
        if self._prefix_cache is not None:
            self._prefix_cache.announce(request)
        self._allocate(request, self._num_blocks(request.num_computed + num_tokens) - len(cached))
        request.status = RequestStatus.RUNNING
        request.slot = self._free_slots.pop()
        insort(self._running, request, key=_order)
        self._run(request, num_tokens, step)
        return True

    def _run(self, request: Request, num_tokens: int, step: StepBuilder) -> None:
        """Put the row into the step, and have the features ready that it reads."""
        is_done = request.num_images_done == len(request.images)
        step.add(request, num_tokens, None if is_done else self._feature_rows(request, num_tokens, step))

    def _feature_rows(self, request: Request, num_tokens: int, step: StepBuilder) -> np.ndarray | None:
        """For the next tokens [num_tokens] of a request the row of their feature, -1 where none; None: none has one.

        Images that are not in the cache are encoded in this step.
        """
        start, stop = request.num_computed, request.num_computed + num_tokens
        rows: np.ndarray | None = None
        for index, span in enumerate(request.images[request.num_images_done :], request.num_images_done):
            if span.start >= stop:
                break
            image = span.image
            if image.content_hash not in self.encoder_cache:
                self.encoder_cache.add(image.content_hash, image.plan.num_features)
                step.encode(image, self.encoder_cache.rows(image.content_hash))
            self.encoder_cache.use(image.content_hash, (request.request_id, index))
            if rows is None:
                rows = np.full(num_tokens, -1, np.int32)
            of_image = np.full(span.num_tokens, -1, np.int32)
            of_image[span.is_feature] = self.encoder_cache.rows(image.content_hash)
            first, last = max(start, span.start), min(stop, span.stop)
            rows[first - start : last - start] = of_image[first - span.start : last - span.start]
        return rows

    def _cached_blocks(self, request: Request) -> list[int] | None:
        """Blocks that hold the request's beginning; None while another request computes the next one."""
        # Log-probabilities of the prompt need every position's logits, so nothing of it may be skipped.
        if self._prefix_cache is None or request.sampling.prompt_logprobs is not None:
            return []
        self._prefix_cache.extend_hashes(request)
        cached = self._prefix_cache.match(request)
        return None if self._prefix_cache.is_coming(request, len(cached)) else cached

    def _stop_before_image(self, request: Request, num_tokens: int) -> int:
        """Cut a row short in front of an image while the features in use leave no room for its own.

        Images of which all tokens were run in earlier steps are let go.
        """
        start, stop, claimed = request.num_computed, request.num_computed + num_tokens, 0
        for index, span in enumerate(request.images[request.num_images_done :], request.num_images_done):
            if span.start >= stop:
                break
            if span.stop <= start:
                self.encoder_cache.release(span.image.content_hash, (request.request_id, index))
                request.num_images_done = index + 1
                continue
            claimed += self.encoder_cache.num_to_claim(span.image.content_hash, span.image.plan.num_features)
            if not self.encoder_cache.can_hold(claimed):
                return max(0, span.start - start)
        return num_tokens

    def _preempt(self, request: Request) -> None:
        self.num_preemptions += 1
        self._running.pop()
        self._release(request)
        self.add(request)

    def _release(self, request: Request) -> None:
        """Give back blocks, slot and images."""
        if self._prefix_cache is not None:
            self._prefix_cache.withdraw(request)
        blocks = request.take_blocks()
        for block_id in reversed(blocks):
            self.pool.free((block_id,), self._prefix_cache is not None and self._prefix_cache.holds(block_id))
        self._free_slots.append(request.slot)
        request.slot = -1
        for index, span in enumerate(request.images):
            self.encoder_cache.release(span.image.content_hash, (request.request_id, index))

    def _allocate(self, request: Request, count: int) -> None:
        if count > 0:
            blocks = self.pool.allocate(count)
            if self._prefix_cache is not None:
                self._prefix_cache.evict(blocks)
            request.append_blocks(blocks)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._limits.block_size)


def _order(request: Request) -> tuple[int, int]:
    return request.order

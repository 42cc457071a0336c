"""Continuous batching: which tokens of which requests run in the next step."""

from bisect import insort
from collections.abc import Set

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.block_pool import BlockPool
from aphrodite.domain.scheduling.encoder_cache import EncoderCache
from aphrodite.domain.scheduling.feature_rows import FeatureRows
from aphrodite.domain.scheduling.kv_blocks import KvBlocks
from aphrodite.domain.scheduling.request import Request, RequestStatus
from aphrodite.domain.scheduling.shares import prompt_shares
from aphrodite.domain.scheduling.slot_table import SlotTable
from aphrodite.domain.scheduling.step import StepResult
from aphrodite.domain.scheduling.step_builder import Schedule, StepBuilder
from aphrodite.domain.scheduling.step_size import StepSize
from aphrodite.domain.scheduling.turns import Turns

_RESERVED_SHARE = 4  # a quarter of a step
_MAX_TRIES = 8  # owners without room that a step looks at
_MAX_OVERTAKEN = 64  # admissions that the first in line, without room for itself, lets by


class Scheduler:
    """Owners take turns (see Turns), and of one owner who comes first is served first.

    When blocks run out the youngest sequence of the owner who has most is preempted, of those of the highest priority;
    also when an owner waits of whom nothing runs. It loses its KV and is run again from its first token; what it
    generated is kept. A prompt longer than the step's budget is run in chunks. Steps may be planned while earlier ones
    run: a request's sampled tokens are then counted as in flight, and its next row reads them on the device.
    """

    def __init__(self, limits: BackendLimits, enable_prefix_caching: bool) -> None:
        self.encoder_cache = EncoderCache(limits.num_feature_rows)
        self.step_size = StepSize(limits.max_num_batched_tokens)
        self.num_preemptions = 0
        self.num_waiting = 0
        self._limits = limits
        self._slots = SlotTable(limits.max_num_seqs, -(-limits.max_model_len // limits.block_size), limits.block_size)
        self._blocks = KvBlocks(limits, self._slots, enable_prefix_caching)
        self._features = FeatureRows(self.encoder_cache)
        self._turns = Turns()
        self._running: list[Request] = []  # by seniority
        self._num_admitted = 0  # for the first time
        self._longest_whole_range = 0  # tokens that are never split, of all that there were
        self._free_slots = list(range(limits.max_num_seqs - 1, -1, -1))

    @property
    def pool(self) -> BlockPool:
        return self._blocks.pool

    @property
    def num_running(self) -> int:
        return len(self._running)

    def add(self, request: Request) -> None:
        request.status = RequestStatus.WAITING
        self._longest_whole_range = max(self._longest_whole_range, *map(len, request.whole_ranges), 0)
        self.num_waiting += 1
        self._turns.add(request)

    def schedule(self, resting: Set[Request] = frozenset()) -> Schedule | None:
        """Plan a step, in which those that rest are not to decode; None when nothing can run now."""
        self._make_room()
        prompting = [request for request in self._running if not request.slot_started]
        step = StepBuilder(self._budget(len(self._running) - len(prompting)), self._slots)
        if self._schedule_running(step, prompting, resting):
            self._schedule_waiting(step)
        elif step.is_empty:  # who has no share of the step may hold the room for images that all others wait for
            self._schedule_running(step, prompting, resting, are_shared=False)
        return None if step.is_empty else step.build()

    def commit(self, schedule: Schedule, result: StepResult) -> list[tuple[Request, int]]:
        """Book what a step sampled: (request, new token id) for every request that still wants it."""
        for request in schedule.requests:
            request.num_rows_in_flight -= 1
        sampled = []
        for request, token_id in zip(schedule.sampling, result.token_ids.tolist(), strict=True):
            if request.status is not RequestStatus.FINISHED:
                request.num_in_flight -= 1
                request.append_token(token_id)
                sampled.append((request, token_id))
        self._blocks.register(schedule)
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
        self._blocks.forget()
        self.encoder_cache.clear()

    def finish(self, request: Request) -> None:
        """End a request, wherever it stands; its blocks are free once more."""
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
            self._release(request)
        elif request.status is RequestStatus.WAITING:
            self.num_waiting -= 1
        request.status = RequestStatus.FINISHED

    def _make_room(self) -> None:
        """Preempt for an owner of whom nothing runs, unless others have as little."""
        owner = self._turns.first_owner()
        if owner is None or self._turns.num_running(owner) or (request := self._turns.first()) is None:
            return
        while (cached := self._blocks.cached(request)) is not None:
            if self._free_slots if self._blocks.fits(request, cached) else not self._could_fit(request, cached):
                break
            giver = self._turns.giver(request.owner)
            given = [] if giver is None else [each for each in self._running if giver.has(each)]
            if not given:
                break
            victim = max(reversed(given), key=_priority)
            if victim.owner.client == request.owner.client and victim.priority < request.priority:
                break
            self._preempt(victim)

    def _budget(self, num_decoding: int) -> int:
        """Tokens of a step: one for each that decodes, and prompts', which are not to take long while others wait."""
        most = self._limits.max_num_batched_tokens
        if self._turns.only_nobody:
            return most
        wanted = max(self.step_size.num_tokens(is_shared=self._turns.is_shared), self._longest_whole_range)
        return min(most, num_decoding + wanted)

    def _schedule_running(
        self, step: StepBuilder, prompting: list[Request], resting: Set[Request], *, are_shared: bool = True
    ) -> bool:
        """Returns whether more may be admitted: not while a request that runs lacks blocks or room for its images."""
        index, num_preemptions, all_fit = 0, self.num_preemptions, True
        num_for_prompts = step.budget - len(self._running) + len(prompting)
        num_left = num_for_prompts
        shares = prompt_shares(prompting, max(1, num_for_prompts - self._reserve(num_for_prompts)))
        while index < len(self._running) and step.budget > 0:
            request = self._running[index]
            if request.slot_started:
                if request not in resting and not self._decode(request, step, index):
                    continue  # the request itself was preempted; the next one has its place
            else:
                share = shares[request.owner] if are_shared else num_left
                wanted = max(0, min(request.num_runnable, share, step.budget))
                num_tokens = self._features.cut(request, wanted, num_left)
                shares[request.owner] -= num_tokens
                num_left -= num_tokens
                all_fit = all_fit and num_tokens >= wanted
                if num_tokens > 0:
                    if not self._grow(request, num_tokens, index):
                        continue
                    self._run(request, num_tokens, step)
            index += 1
        return all_fit and self.num_preemptions == num_preemptions

    def _reserve(self, num_tokens: int) -> int:
        """How many of a step's tokens prompts leave to an owner who waits and of whom nothing runs."""
        owner = self._turns.first_owner()
        return 0 if owner is None or self._turns.num_running(owner) else num_tokens // _RESERVED_SHARE

    def _decode(self, request: Request, step: StepBuilder, index: int) -> bool:
        """Plan one more token, if any, of the running one at `index`. Returns False when it was preempted itself."""
        if request.num_tokens + request.num_in_flight >= request.max_total_tokens:
            return True
        if request.images and request.num_images_done < len(request.images):
            self._features.let_go(request)
        if request.num_computed == request.num_blocks * self._limits.block_size and not self._grow(request, 1, index):
            return False
        step.add_decode(request)
        return True

    def _grow(self, request: Request, num_tokens: int, index: int) -> bool:
        """Allocate the blocks of the next `num_tokens` tokens, preempting others that have no row in this step yet.

        `request` is the running one at `index`. Returns False when it was preempted itself.
        """
        needed = self._blocks.num_missing(request, num_tokens)
        while needed > self.pool.num_free:
            victim = self._youngest_of_richest(index)
            self._preempt(victim)
            if victim is request:
                return False
        self._blocks.allocate(request, needed)
        return True

    def _youngest_of_richest(self, index: int) -> Request:
        """Of the running ones from `index` on, and of them of those with the highest priority.

        So the eldest of all of the lowest priority is never preempted.
        """
        richest = self._turns.richest()
        candidates = [] if richest is None else [each for each in self._running[index:] if richest.has(each)]
        return max(reversed(candidates), key=_priority) if candidates else self._running[-1]

    def _schedule_waiting(self, step: StepBuilder) -> None:
        """Admit in turn. Who waits for blocks that another computes keeps a slot and lets others of its owner by; who
        finds no room lets other owners by, so often and no more.
        """
        overtaken: list[Request] = []
        while step.budget > 0 and len(overtaken) < _MAX_TRIES and (owner := self._turns.first_owner()) is not None:
            if len(self._free_slots) <= self._turns.num_put_off(owner):
                if not self._free_slots or self._turns.num_passed_over >= self._limits.max_num_seqs:
                    break
                self._turns.set_aside(owner)
                continue
            request = self._turns.first()
            if request is None:
                break
            if request.owner != owner:  # all that waited of that one has ended
                continue
            cached = self._blocks.cached(request)
            if cached is None:
                self._turns.put_off(request)  # it waits for what another computes
            elif not request.num_rows_in_flight and self._admit(request, cached, step):
                self.num_waiting -= 1
                for other in overtaken:
                    other.num_overtaken += 1
            else:
                self._turns.set_aside(owner)
                overtaken.append(request)
                if request.num_overtaken >= _MAX_OVERTAKEN:
                    break
        self._turns.restore()

    def _admit(self, request: Request, cached: list[int], step: StepBuilder) -> bool:
        """Start a waiting request, if there is room for all its tokens and for an image that stands first."""
        if not self._blocks.fits(request, cached):
            return False
        request.num_computed = len(cached) * self._limits.block_size
        num_tokens = self._features.cut(
            request, min(request.num_tokens - request.num_computed, step.budget), step.budget
        )
        if num_tokens <= 0:
            request.num_computed = request.num_images_done = 0
            return False
        if request.num_cached_tokens < 0:
            request.num_cached_tokens = request.num_computed
        request.slot = self._free_slots.pop()
        self._slots.take(request)
        self._blocks.start(request, cached, num_tokens)
        request.status = RequestStatus.RUNNING
        if request.seniority < 0:
            request.seniority = self._num_admitted
            self._num_admitted += 1
        request.num_overtaken = 0
        self._turns.start(request)
        insort(self._running, request, key=_seniority)
        self._run(request, num_tokens, step)
        return True

    def _could_fit(self, request: Request, cached: list[int]) -> bool:
        """Whether there would be blocks if every owner kept its eldest sequence alone."""
        eldest = {other.owner: other for other in reversed(self._running)}
        given = sum(other.num_blocks for other in self._running if eldest[other.owner] is not other)
        return self._blocks.num_blocks(request.num_tokens) - len(cached) <= self.pool.num_free + given

    def _run(self, request: Request, num_tokens: int, step: StepBuilder) -> None:
        """Put the row into the step, and have the features ready that it reads."""
        is_done = request.num_images_done == len(request.images)
        step.add(request, num_tokens, None if is_done else self._features.of_next(request, num_tokens, step))

    def _preempt(self, request: Request) -> None:
        self.num_preemptions += 1
        self._running.remove(request)
        self._release(request)
        self.add(request)

    def _release(self, request: Request) -> None:
        """Give back blocks, slot and images."""
        self._blocks.release(request)
        self._turns.stop(request)
        self._slots.leave(request.slot)
        self._free_slots.append(request.slot)
        request.slot = -1
        self._features.release(request)


def _seniority(request: Request) -> int:
    return request.seniority


def _priority(request: Request) -> int:
    return request.priority

"""The KV blocks of the running requests: found in the prefix cache, allocated, and given back."""

from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.block_pool import BlockPool
from aphrodite.domain.scheduling.prefix_cache import PrefixCache
from aphrodite.domain.scheduling.request import Request, RequestStatus
from aphrodite.domain.scheduling.slot_table import SlotTable
from aphrodite.domain.scheduling.step_builder import Schedule


class KvBlocks:
    """Keeps block pool, prefix cache, requests and slot table in step."""

    def __init__(self, limits: BackendLimits, slots: SlotTable, enable_prefix_caching: bool) -> None:
        self.pool = BlockPool(limits.num_blocks)
        self._slots = slots
        self._block_size = limits.block_size
        self._prefix_cache = PrefixCache(self.pool, limits.block_size) if enable_prefix_caching else None

    def num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)

    def cached(self, request: Request) -> list[int] | None:
        """Blocks that hold the request's beginning; None while another request computes the next one."""
        # Log-probabilities of the prompt need every position's logits, so nothing of it may be skipped.
        if self._prefix_cache is None or request.sampling.prompt_logprobs is not None:
            return []
        self._prefix_cache.extend_hashes(request)
        cached = self._prefix_cache.match(request)
        return None if self._prefix_cache.is_coming(request, len(cached)) else cached

    def fits(self, request: Request, cached: list[int]) -> bool:
        """Whether there are blocks for all tokens of a request whose beginning lies in `cached`."""
        revived = sum(self.pool.is_free(block_id) for block_id in cached)
        return self.num_blocks(request.num_tokens) - len(cached) + revived <= self.pool.num_free

    def start(self, request: Request, cached: list[int], num_tokens: int) -> None:
        """Give a request that has its slot the blocks of its beginning and of the next `num_tokens` tokens."""
        for block_id in cached:
            self.pool.share(block_id)
        self._append(request, cached)
        request.num_registered_blocks = len(cached)
        if self._prefix_cache is not None:
            self._prefix_cache.announce(request)
        self.allocate(request, self.num_missing(request, num_tokens))

    def num_missing(self, request: Request, num_tokens: int) -> int:
        """Blocks that a running request needs more for its next `num_tokens` tokens."""
        return self.num_blocks(request.num_computed + num_tokens) - request.num_blocks

    def allocate(self, request: Request, count: int) -> None:
        """As many as are free, at most."""
        if count > 0:
            blocks = self.pool.allocate(count)
            if self._prefix_cache is not None:
                self._prefix_cache.evict(blocks)
            self._append(request, blocks)

    def release(self, request: Request) -> None:
        """Take all blocks back; those that the prefix cache knows are forgotten last."""
        if self._prefix_cache is not None:
            self._prefix_cache.withdraw(request)
        for block_id in reversed(request.take_blocks()):
            self.pool.free((block_id,), self._prefix_cache is not None and self._prefix_cache.holds(block_id))

    def register(self, schedule: Schedule) -> None:
        """Make the blocks findable that a step has filled."""
        if self._prefix_cache is None:
            return
        ends = schedule.plan.decode.starts + 1
        for index in (ends % self._block_size == 0).nonzero()[0].tolist():
            if schedule.decoding[index].status is RequestStatus.RUNNING:
                self._prefix_cache.register(schedule.decoding[index], int(ends[index]))
        for row, request in zip(schedule.plan.prompts, schedule.prompting, strict=True):
            if request.status is RequestStatus.RUNNING:
                self._prefix_cache.register(request, row.start + row.num_tokens)

    def forget(self) -> None:
        """What blocks hold is gone."""
        if self._prefix_cache is not None:
            self._prefix_cache.clear()

    def _append(self, request: Request, block_ids: list[int]) -> None:
        request.append_blocks(block_ids)
        self._slots.append_blocks(request, block_ids)

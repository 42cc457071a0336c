"""The scheduler's time against the requests that wait."""

import time

import numpy as np

from aphrodite.bench.curves.figures import WaitingPoint
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.scheduler import Scheduler
from aphrodite.domain.scheduling.step import StepResult

NUMS_RUNNING = (16, 64, 256)
NUMS_WAITING = (0, 10, 100, 1_000, 10_000)
_PROMPT_TOKENS = 64
_OUTPUT_TOKENS = (16, 64)  # from, to
_NUM_STEPS = 200
_SAMPLING = SamplingParams(temperature=0)


def measure_waiting(block_size: int, seed: int) -> list[WaitingPoint]:
    """The scheduler without an engine: each step's tokens are there at once."""
    return [
        _measure(num_running, num_waiting, block_size, seed)
        for num_running in NUMS_RUNNING
        for num_waiting in NUMS_WAITING
    ]


def _measure(num_running: int, num_waiting: int, block_size: int, seed: int) -> WaitingPoint:
    work = _Work(num_running, block_size, np.random.default_rng(seed))
    work.fill(num_running + num_waiting)
    for _ in range(_OUTPUT_TOKENS[1]):  # until they end at all times
        work.step()
        work.fill(num_running + num_waiting)
    steps_s = []
    for _ in range(_NUM_STEPS):
        started_s = time.perf_counter()
        work.step()
        steps_s.append(time.perf_counter() - started_s)
        work.fill(num_running + num_waiting)
    p50, p99 = np.percentile(steps_s, (50, 99)) * 1000
    return WaitingPoint(num_running, num_waiting, round(float(p50), 4), round(float(p99), 4))


class _Work:
    """A scheduler that always has as many requests."""

    def __init__(self, num_running: int, block_size: int, random: np.random.Generator) -> None:
        longest = _PROMPT_TOKENS + _OUTPUT_TOKENS[1]
        self._scheduler = Scheduler(
            BackendLimits(
                num_blocks=1 + num_running * -(-longest // block_size),
                block_size=block_size,
                max_num_seqs=num_running,
                max_num_batched_tokens=num_running * _PROMPT_TOKENS,
                max_model_len=longest,
                max_steps_in_flight=1,
                num_feature_rows=0,
                bytes_per_number=0,
            ),
            enable_prefix_caching=True,
        )
        self._random = random
        self._num_added = 0

    def fill(self, num_requests: int) -> None:
        """Add as many as have ended."""
        while self._scheduler.num_running + self._scheduler.num_waiting < num_requests:
            output_tokens = int(self._random.integers(*_OUTPUT_TOKENS, endpoint=True))
            request = Request(
                str(self._num_added),
                self._random.integers(0, 30_000, _PROMPT_TOKENS).tolist(),
                _SAMPLING,
                seed=0,
                order=(self._num_added, 0),
                max_total_tokens=_PROMPT_TOKENS + output_tokens,
            )
            self._scheduler.add(request)
            self._num_added += 1

    def step(self) -> None:
        """Plan, book, and end those that have all their tokens."""
        schedule = self._scheduler.schedule()
        assert schedule is not None
        result = StepResult(np.zeros(schedule.plan.num_samples, np.int32), None, {})
        for request, _ in self._scheduler.commit(schedule, result):
            if request.num_tokens == request.max_total_tokens:
                self._scheduler.finish(request)

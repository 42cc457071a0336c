"""The load: when requests are sent, and the health checks beside them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aphrodite.bench.client import Client
from aphrodite.bench.measurement import Answer, Measurement

_PROBE_EVERY_S = 0.05


@dataclass(frozen=True)
class Concurrency:
    """So many requests at once: a new one when another ends."""

    num_requests: int


@dataclass(frozen=True)
class PoissonRate:
    """So many requests a second on average, sent whether or not earlier ones are answered."""

    requests_per_s: float
    seed: int


def poisson_arrivals(num_requests: int, requests_per_s: float, seed: int) -> NDArray[np.float64]:
    """When each request is due, in seconds from the start: the gaps are exponentially distributed."""
    gaps = np.random.default_rng(seed).exponential(1 / requests_per_s, num_requests)
    return np.cumsum(gaps)


async def run_load(client: Client, bodies: Sequence[bytes], pace: Concurrency | PoissonRate) -> Measurement:
    """Send every body at its time and wait for all answers, checking the server's health all the while."""
    health = _HealthProbe(client)
    probe = asyncio.create_task(health.run())
    started_s = time.perf_counter()
    try:
        if isinstance(pace, Concurrency):
            answers = await _at_once(client, bodies, pace.num_requests)
        else:
            arrivals = poisson_arrivals(len(bodies), pace.requests_per_s, pace.seed)
            answers = await _as_due(client, bodies, (started_s + arrivals).tolist())
        ended_s = time.perf_counter()
    finally:
        probe.cancel()
        await asyncio.wait([probe])
    return Measurement(started_s, ended_s, answers, health.delays_s, health.num_failed)


async def _at_once(client: Client, bodies: Sequence[bytes], num_at_once: int) -> list[Answer]:
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(bodies))

    async def work() -> None:
        for index, body in waiting:
            answers[index] = await client.ask(body)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(num_at_once, len(bodies))):
            group.create_task(work())
    return [answers[index] for index in range(len(bodies))]


async def _as_due(client: Client, bodies: Sequence[bytes], due_s: Sequence[float]) -> list[Answer]:
    tasks = []
    async with asyncio.TaskGroup() as group:
        for body, due in zip(bodies, due_s, strict=True):
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(group.create_task(client.ask(body, due)))
    return [task.result() for task in tasks]


class _HealthProbe:
    """Checks at fixed times, each from when it was due: a slow one holds up no other."""

    def __init__(self, client: Client) -> None:
        self.delays_s: list[float] = []
        self.num_failed = 0
        self._client = client

    async def run(self) -> None:
        """Until cancelled."""
        due_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._check(due_s))
                due_s += _PROBE_EVERY_S
                await asyncio.sleep(due_s - time.perf_counter())

    async def _check(self, due_s: float) -> None:
        if await self._client.is_healthy():
            self.delays_s.append(time.perf_counter() - due_s)
        else:
            self.num_failed += 1

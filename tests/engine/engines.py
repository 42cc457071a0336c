"""Engines over the fake backend, as a spawned process builds them."""

import hashlib
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.fakes import LIMITS, VOCAB_SIZE, FakeBackend, FakeGrammars

from aphrodite.adapters.outbound.telemetry.clock import SystemClock
from aphrodite.domain.errors import CapacityError, DeviceLostError, ModelNotFoundError, StepError
from aphrodite.domain.ports import Clock, ComputeBackend, Grammars, PendingStep
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.engine.engine import Engine

if TYPE_CHECKING:
    from aphrodite.bootstrap import EngineParts

CRASH_TOKEN = 7  # a prompt that begins with it has the step raise what no backend may
KILL_TOKEN = 8  # ... has the process killed
LOST_TOKEN = 6  # ... has the device lost
HANG_TOKEN = 5  # ... has the step never end
FAIL_TOKEN = 9  # ... has the step fail as steps may
ROOMY = replace(LIMITS, num_blocks=4096, max_num_seqs=64, max_num_batched_tokens=512, max_model_len=512)


class FragileBackend(FakeBackend):
    """Breaks on demand, and takes `step_s` seconds a step."""

    def __init__(self, step_s: float) -> None:
        super().__init__(ROOMY)
        self._step_s = step_s

    def launch(self, plan: StepPlan) -> PendingStep:
        self.plans.clear()
        first = {int(row.token_ids[0]) for row in plan.prompts if row.token_ids is not None and row.start == 0}
        if CRASH_TOKEN in first:
            raise ZeroDivisionError("the device fell off")
        if KILL_TOKEN in first:
            os.kill(os.getpid(), signal.SIGKILL)
        if LOST_TOKEN in first:
            raise DeviceLostError("The device is gone.")
        if HANG_TOKEN in first:
            time.sleep(3600)
        if FAIL_TOKEN in first:
            raise StepError("The step failed.")
        for encoded in plan.encode:
            image = encoded.image
            if hashlib.blake2b(image.patches.tobytes(), digest_size=16).digest() != image.content_hash:
                raise StepError("The patches are not those that were sent.")
        time.sleep(self._step_s)
        return super().launch(plan)


def build(step_s: float = 0.0) -> Engine:
    return engine_over(FragileBackend(step_s))


def build_none() -> Engine:
    raise ModelNotFoundError("No model is at nowhere/at-all.")


def build_badly() -> Engine:
    raise ZeroDivisionError("nobody foresaw this")


def build_deadly() -> Engine:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def build_once(marker: str) -> Engine:
    """Builds the first time only."""
    try:
        os.mkdir(marker)
    except FileExistsError:
        raise CapacityError("The memory is gone.") from None
    return build()


def build_after(started: str, go_on: str) -> Engine:
    """Says that it runs, and waits for a word."""
    os.mkdir(started)
    while not os.path.exists(go_on):
        time.sleep(0.01)
    return build()


def build_once_in_time(marker: str) -> Engine:
    """The first time; later it never comes to an end."""
    try:
        os.mkdir(marker)
    except FileExistsError:
        time.sleep(3600)
    return build()


def build_slowly(started: str) -> Engine:
    """Says that it runs, and never comes to an end."""
    os.mkdir(started)
    while True:
        time.sleep(3600)


def build_without_tokenizer(parts: "EngineParts") -> Engine:
    """A real one; the library that tokenizers come with takes longer to load than all else."""
    from aphrodite.bootstrap import build_engine  # here, as every process of these tests reads this file

    engine = build_engine(parts)
    assert "transformers" not in sys.modules
    return engine


def engine_over(
    backend: ComputeBackend,
    eos_token_ids: frozenset[int] = frozenset(),
    grammars: Grammars | None = None,
    clock: Clock | None = None,
) -> Engine:
    return Engine(
        backend,
        clock or SystemClock(),
        eos_token_ids=eos_token_ids,
        vocab_size=VOCAB_SIZE,
        seed=0,
        enable_prefix_caching=True,
        grammars=grammars or FakeGrammars(),
    )

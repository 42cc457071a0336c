"""Where the time of a round goes: clocks around the functions that a step is made of, put on for that round alone.

Time counts once, for the innermost of the functions that run. On a GPU these are times of the host, which only queues
the work: what the device needs beyond that shows as waiting for it.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from aphrodite.adapters.inbound.llm import LLM
from aphrodite.domain.generation.assembler import RequestAssembler

Annotate = Callable[[str], AbstractContextManager[Any]]
"""Marks a stretch of time for a profiler."""


@dataclass(frozen=True)
class Phase:
    """One function, and what its time is called. Phases of one name are added up."""

    name: str
    owner: Any  # an object, a class or a module
    attribute: str


class PhaseClock:
    """Seconds by phase."""

    def __init__(self, annotate: Annotate = nullcontext) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._annotate = annotate
        self._inner_s: list[float] = []  # of each function that runs, the time inside of others

    @contextmanager
    def around(self, phases: list[Phase]) -> Iterator[None]:
        """Put the clock around the functions of `phases` for as long as the block takes."""
        undo: list[Callable[[], None]] = []
        try:
            undo.extend(self._put_on(phase) for phase in phases)
            yield
        finally:
            for restore in reversed(undo):
                restore()

    def _put_on(self, phase: Phase) -> Callable[[], None]:
        """Returns what takes it off."""
        owner, attribute = phase.owner, phase.attribute
        original, is_own = getattr(owner, attribute), attribute in vars(owner)
        setattr(owner, attribute, self._timed(phase.name, original))
        if is_own:
            return lambda: setattr(owner, attribute, original)
        return lambda: delattr(owner, attribute)  # it hid that of the object's class

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner_s.append(0.0)
            started_s = time.perf_counter()
            try:
                with self._annotate(name):
                    return function(*args, **kwargs)
            finally:
                spent_s = time.perf_counter() - started_s
                self.seconds[name] += spent_s - self._inner_s.pop()
                if self._inner_s:
                    self._inner_s[-1] += spent_s

        return timed


def phases_of(llm: LLM) -> list[Phase]:
    """The parts of `LLM.generate`, as far as this backend has them."""
    engine = llm._engine
    backend = engine._backend
    module = sys.modules[type(backend).__module__]
    named = [
        ("preparing prompts", llm, "_run"),
        ("planning", engine.scheduler, "schedule"),
        ("launching, copies among it", backend, "launch"),
        ("flattening", module, "flatten"),
        ("encoding pictures", backend, "_encode"),
        ("decoder", getattr(backend, "_decoder", None), "forward"),
        ("sampling", getattr(backend, "_decoder", None), "logits"),
        ("sampling", module, "sample"),
        ("running programs", getattr(backend, "_programs", None), "run"),
        ("waiting for the device", getattr(module, "DevicePendingStep", None), "result"),
        ("committing", engine, "_commit"),
        ("detokenising", RequestAssembler, "push"),
        ("the loop around them", llm, "_drive"),
    ]
    return [Phase(name, owner, attribute) for name, owner, attribute in named if hasattr(owner, attribute)]

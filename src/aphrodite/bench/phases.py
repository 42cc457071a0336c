"""Where the time of a round goes: clocks around the functions that a step is made of, put on for that round alone.

Time counts once, for the innermost of the functions that run. Where the host goes on while the device works, as with a
GPU, "queueing" is the host's time, and "in the device" what the host had to wait for.
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
from aphrodite.engine.engine import Engine

IN_DEVICE = "in the device"
"""What the names of phases begin with that are no time of the host."""

Annotate = Callable[[str], AbstractContextManager[Any]]
"""Marks a stretch of time for a profiler."""


@dataclass(frozen=True)
class Phase:
    """One function, and what its time is called, from its arguments or always. Phases of one name are added up."""

    name: str | Callable[..., str]
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
        """Put the clock around the functions of `phases` for as long as the block takes.

        Raises AttributeError for one that is not there.
        """
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

    def _timed(self, naming: str | Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            name = naming if isinstance(naming, str) else naming(*args, **kwargs)
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
    """The parts of `LLM.generate`."""
    return [
        Phase("preparing prompts", llm, "_run"),
        Phase("the loop around them", llm, "_drive"),
        Phase("detokenising", RequestAssembler, "push"),
        *phases_of_step(llm._engine),
    ]


def phases_of_step(engine: Engine) -> list[Phase]:
    """The parts of `Engine.step`; of a backend that is not ours only its two methods."""
    backend: Any = engine._backend
    parts = {"aphrodite.backends.cuda.backend": _of_cuda, "aphrodite.backends.jax_tpu.backend": _of_jax_tpu}
    found = parts.get(type(backend).__module__)
    return [
        Phase("planning", engine.scheduler, "schedule"),
        Phase("committing", engine, "_commit"),
        Phase("launching", backend, "launch"),
        *(found(backend) if found is not None else []),
    ]


def _of_cuda(backend: Any) -> list[Phase]:
    module = sys.modules[type(backend).__module__]
    device = _device(backend)
    return [
        Phase("flattening", module, "flatten"),
        Phase("copying", backend._staging, "send"),
        Phase(f"{device}: pictures", backend, "_encode"),
        Phase(f"{device}: decoder", backend._decoder, "forward"),
        Phase(f"{device}: decoder", backend._decode_graphs, "run"),
        Phase(f"{device}: logits", backend._decoder, "logits"),
        Phase(f"{device}: sampling", module, "sample"),
        Phase("copying" if device == IN_DEVICE else IN_DEVICE, module.DevicePendingStep, "result"),
    ]


def _of_jax_tpu(backend: Any) -> list[Phase]:
    module = sys.modules[type(backend).__module__]
    device = _device(backend)
    names = {"forward": "decoder", "encode": "pictures", "sample": "sampling"}

    def name(program: str, *_: Any) -> str:
        function = program.partition(",")[0]
        return f"{device}: {names.get(function, function)}"

    return [
        Phase("flattening", module, "flatten"),
        Phase(name, backend._programs, "run"),
        Phase(IN_DEVICE, module.DevicePendingStep, "result"),
    ]


def _device(backend: Any) -> str:
    """Whose time a call is that gives the device work."""
    return IN_DEVICE if backend.limits.max_steps_in_flight == 1 else "queueing"

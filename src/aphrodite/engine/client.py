"""The asyncio side of an engine in its own process."""

from collections.abc import AsyncIterator, Callable

from aphrodite.domain.errors import AphroditeError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine.engine import Engine, EngineRequest


class EngineClient:
    """Starts an engine in a process of its own, keeps it alive, and passes requests and deltas to and fro.

    All methods belong to the event loop that called `start`. A process that dies is started again, later and later,
    until `restarts` says that it died too often.
    """

    def __init__(self, build: Callable[[], Engine], *, max_queue: int = 1024) -> None:
        """
        Args:
            build: Makes the engine, in the new process; picklable, as functools.partial(build_engine, config) is.
            max_queue: Most requests that may be open without having had a first delta.
        """
        raise NotImplementedError

    @property
    def limits(self) -> BackendLimits:
        """What the engine can hold, `max_model_len` among it; known once `start` has returned."""
        raise NotImplementedError

    @property
    def is_healthy(self) -> bool:
        """Whether requests are taken now: False before `start`, between a death and the new start, and at the end."""
        raise NotImplementedError

    @property
    def stats(self) -> EngineStats:
        """The engine as it was after its last step; all zero while there is none."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the process and wait until the engine in it is ready.

        Raises ModelError, BackendError or ConfigError, as `build` did in the process; nothing is left running then.
        """
        raise NotImplementedError

    async def submit(self, request: EngineRequest) -> AsyncIterator[SequenceDelta]:
        """Have a request answered: an async generator of the deltas of its `n` sequences, as the engine makes them.

        It ends when every sequence has a finish reason, an error in its last delta (StepError, as Engine.step has it),
        or was aborted by `abort_sequence`. Closing it, or cancelling the task that waits in it, aborts what is left in
        the engine; iterate under `contextlib.aclosing`, so that it is closed at once when the loop is left.

        Raises, when iterated: RequestError for a request that the engine refuses; QueueFullError; EngineDeadError when
        the process is down or ends meanwhile; EngineClosedError once `shutdown` was called.
        """
        raise NotImplementedError
        yield

    def abort_sequence(self, request_id: str, index: int) -> None:
        """End one sequence of a request, whose text holds a stop string, say. Ids of the past are none's business."""
        raise NotImplementedError

    async def failed(self) -> AphroditeError:
        """Wait until restarts were given up; returns why. Never returns while the client recovers or is shut down."""
        raise NotImplementedError

    async def shutdown(self, timeout_s: float) -> None:
        """Take no more requests, let those that run finish for at most `timeout_s` seconds, and end the process.

        Requests that are not finished then end with EngineClosedError. May be called again, and without `start`.
        """
        raise NotImplementedError

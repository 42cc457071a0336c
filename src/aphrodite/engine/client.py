"""The asyncio side of an engine in its own process."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from aphrodite.domain.errors import (
    AphroditeError,
    EngineClosedError,
    EngineDeadError,
    RequestError,
    UnreadAnswerError,
)
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine.engine import Engine, EngineRequest
from aphrodite.engine.link import EngineLink, EngineSilentError
from aphrodite.engine.messages import Abort, AbortSequence, EngineMessage, Failed, Heartbeat, Ready, Refused, StepDone
from aphrodite.engine.queue import Queue
from aphrodite.engine.restarts import DeathRecord, RestartPolicy
from aphrodite.engine.stream import RequestStream

_PATIENCE = 10  # times what is expected: of the longest step, of a start
_MIN_PATIENCE_S = 60.0

_log = logging.getLogger(__name__)


class EngineClient:
    """Starts an engine in a process of its own, keeps it alive, and passes requests and deltas to and fro.

    All methods belong to the event loop that called `start`. A process that dies is started again, later and later,
    until `restarts` says that it died too often. One whose step hangs, or that is stopped, is ended as if it had died.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        *,
        max_queue: int = 1024,
        step_timeout_s: float | None = None,
        restarts: RestartPolicy | None = None,
    ) -> None:
        """
        Args:
            build: Makes the engine, in the new process; picklable, as functools.partial(build_engine, parts) is.
            max_queue: Places of the queue, one for each sequence that has had no first delta.
            step_timeout_s: How long the process may say nothing, which it does at the most for a step. None: ten times
                the longest step that it expects, but a minute at least.
            restarts: How often and how soon a process that died is started again.
        """
        self._build = build
        self._step_timeout_s = step_timeout_s
        self._patience_s = math.inf  # with the engine at the other end of the link
        self._start_s = math.inf  # what the first start took
        self._restarts = restarts or RestartPolicy()
        self._deaths = DeathRecord(self._restarts)
        self._link: EngineLink | None = None
        self._ready = False  # whether the engine at the other end of the link takes requests
        self._limits: BackendLimits | None = None
        self._stats = EngineStats()
        self._streams: dict[str, RequestStream] = {}
        self._queue = Queue(max_queue)
        self._drained = asyncio.Event()  # no stream is open
        self._drained.set()
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: AphroditeError | None = None
        self._given_up = asyncio.Event()
        self._closing = False

    @property
    def limits(self) -> BackendLimits:
        """What the engine can hold, `max_model_len` among it; known once `start` has returned."""
        if self._limits is None:
            raise RuntimeError("The engine's limits are known once start() has returned.")
        return self._limits

    @property
    def is_healthy(self) -> bool:
        """Whether requests are taken now: False before `start`, between a death and the new start, and at the end."""
        return self._ready and not self._closing

    @property
    def stats(self) -> EngineStats:
        """The engine as it was after its last step; all zero while there is none."""
        return self._stats

    async def start(self) -> None:
        """Start the process and wait until the engine in it is ready.

        Raises ModelError, BackendError or ConfigError, as `build` did in the process; nothing is left running then.
        """
        started_s = asyncio.get_running_loop().time()
        await self._connect(math.inf)
        self._start_s = asyncio.get_running_loop().time() - started_s
        self._supervisor = asyncio.create_task(self._supervise(), name="aphrodite-engine-supervisor")

    def check_room(self, requests: Sequence[EngineRequest]) -> None:
        """Raises QueueFullError where `submit` would."""
        self._queue.check(requests)

    async def submit(self, *requests: EngineRequest) -> AsyncGenerator[SequenceDelta, None]:
        """Have requests of one owner answered: an async generator of the deltas of all, as the engine makes them.

        It ends when every sequence has a finish reason, an error in its last delta (StepError, as Engine.step has it),
        or was aborted by `abort_sequence`. Closing it, or cancelling the task that waits in it, aborts what is left in
        the engine; iterate under `contextlib.aclosing`, so that it is closed at once when the loop is left.

        Raises, when iterated, and ends all of them with that: RequestError for a request that the engine refuses, or
        whose id is taken; QueueFullError where they cannot wait together; EngineDeadError when the process is down or
        ends meanwhile; EngineClosedError once `shutdown` was called.
        """
        link = self._check_open(requests)
        self._queue.add(requests)
        stream = RequestStream(requests)
        self._streams |= dict.fromkeys(stream.request_ids, stream)
        self._drained.clear()
        try:
            for request in requests:
                link.send(request)
            while not stream.ended:
                for delta in await stream.take():
                    yield delta
        finally:
            self._forget(stream.request_ids)
            if self._link is link:
                self._abort(stream)

    def abort_sequence(self, request_id: str, index: int) -> None:
        """End one sequence of a request, whose text holds a stop string, say. Ids of the past are none's business."""
        stream = self._streams.get(request_id)
        if stream is not None and (request_id, index) in stream.unfinished and self._link is not None:
            self._link.send(AbortSequence(request_id, index))
            stream.drop(request_id, index)

    async def failed(self) -> AphroditeError:
        """Wait until restarts were given up; returns why. Never returns while the client recovers or is shut down."""
        await self._given_up.wait()
        assert self._failure is not None
        return self._failure

    async def shutdown(self, timeout_s: float) -> None:
        """Take no more requests, let those that run finish for at most `timeout_s` seconds, and end the process.

        Requests that are not finished then end with EngineClosedError. May be called again, and without `start`.
        """
        self._closing = True
        if self._streams:
            try:
                await asyncio.wait_for(self._drained.wait(), timeout_s)
            except TimeoutError:
                _log.warning("%d requests were not finished in %g seconds.", len(self._streams), timeout_s)
        for stream in set(self._streams.values()):
            stream.fail(EngineClosedError("The server shuts down; the request was not finished in time."))
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
        link, self._link, self._ready = self._link, None, False
        if link is not None:
            await link.stop()

    def _check_open(self, requests: Iterable[EngineRequest]) -> EngineLink:
        if self._closing:
            raise EngineClosedError("The server shuts down and takes no more requests.")
        if self._failure is not None:
            raise EngineDeadError(str(self._failure))
        if self._link is None or not self._ready:
            raise EngineDeadError("The engine is being started; try again in a moment.")
        taken = set(self._streams)
        for request in requests:
            if request.request_id in taken:
                raise RequestError(f"A request with the id {request.request_id!r} is being answered already.")
            taken.add(request.request_id)
        return self._link

    def _abort(self, stream: RequestStream) -> None:
        """End in the engine what it works on for a stream."""
        if self._ready and self._link is not None:
            for request_id in {request_id for request_id, _ in stream.unfinished}:
                self._link.send(Abort(request_id))

    def _forget(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            del self._streams[request_id]
            self._queue.remove(request_id)
        if not self._streams:
            self._drained.set()

    async def _supervise(self) -> None:
        """Listen to the process, and start it again when it has died, until that is hopeless."""
        try:
            while True:
                error: AphroditeError | None = await self._listen()
                while error is not None:
                    delay_s = self._note_death(error)
                    if delay_s is None:
                        return
                    await asyncio.sleep(delay_s)
                    error = await self._reconnect()
        except Exception:
            _log.exception("The engine's supervisor broke.")
            self._give_up(EngineDeadError("The engine's supervisor broke; the server's log says why."))
            raise

    async def _connect(self, patience_s: float) -> None:
        """Start a process and wait until the engine in it is ready. Raises as its `build` does, or EngineDeadError."""
        try:
            link = EngineLink(self._build)
        except OSError as error:  # no room for a process or for its folder, say
            raise EngineDeadError(f"The engine's process could not be started: {error}.") from error
        try:
            while isinstance(message := await link.receive(patience_s), Heartbeat):
                pass
            if isinstance(message, Failed):
                raise message.error
            if not isinstance(message, Ready):
                raise EngineDeadError(f"The engine's process ended while it was being built ({link.describe_end()}).")
        except EngineSilentError as error:
            await link.close()
            raise EngineDeadError(f"The engine was not built within {patience_s:.0f} seconds.") from error
        except BaseException:
            await link.close()
            raise
        self._link, self._limits, self._ready = link, message.limits, True
        self._patience_s = self._step_timeout_s or max(_MIN_PATIENCE_S, _PATIENCE * message.longest_step_s)

    async def _reconnect(self) -> AphroditeError | None:
        try:
            await self._connect(max(_MIN_PATIENCE_S, _PATIENCE * self._start_s))
        except AphroditeError as error:
            return error
        _log.info("The engine is there again.")
        return None

    async def _listen(self) -> AphroditeError:
        """Pass on what the process says until it has ended; returns why it did."""
        link = self._link
        assert link is not None
        error: AphroditeError | None = None
        while (message := await self._hear(link)) is not None:
            if isinstance(message, Failed):
                error = message.error
                self._end_streams()
                link.kill()  # it has said its last; nothing is to keep it from ending
            else:
                self._dispatch(message)
        self._end_streams()
        self._link = None
        await link.close()
        return error or EngineDeadError(f"The engine's process ended ({link.describe_end()}).")

    async def _hear(self, link: EngineLink) -> EngineMessage | None:
        """The next message; None when the process has ended."""
        try:
            return await link.receive(self._patience_s)
        except EngineSilentError:
            return Failed(EngineDeadError(f"The engine did nothing for {self._patience_s:g} seconds and was ended."))

    def _end_streams(self) -> None:
        """The engine is gone, and with it all that it worked on."""
        self._ready, self._stats = False, EngineStats()
        for stream in set(self._streams.values()):
            stream.fail(EngineDeadError("The engine's process ended before the request was finished; ask again."))

    def _dispatch(self, message: EngineMessage) -> None:
        # What comes for a request that is not open was under way when it was aborted.
        if isinstance(message, StepDone):
            self._stats = message.stats
            for delta in message.deltas:
                stream = self._streams.get(delta.request_id)
                if stream is not None:
                    if delta.request_id in self._queue:
                        self._queue.start(delta.request_id, delta.index)
                    stream.push(delta)
                    if stream.is_overfull:  # nobody takes what comes
                        self._abort(stream)
                        stream.fail(UnreadAnswerError("The answer was read so slowly that it was ended."))
        elif isinstance(message, Refused) and (stream := self._streams.get(message.request_id)) is not None:
            self._abort(stream)
            stream.fail(message.error)

    def _note_death(self, error: AphroditeError) -> float | None:
        """Returns the seconds to wait before the next start, None when there is to be none."""
        delay_s = self._deaths.add(asyncio.get_running_loop().time())
        if delay_s is None:
            policy = self._restarts
            self._give_up(
                EngineDeadError(f"The engine died {policy.max_deaths} times in {policy.window_s:g} seconds: {error}")
            )
        else:
            _log.error("%s It is started again in %g seconds.", error, delay_s)
        return delay_s

    def _give_up(self, failure: AphroditeError) -> None:
        _log.error("%s", failure)
        self._end_streams()
        self._failure = failure
        self._given_up.set()

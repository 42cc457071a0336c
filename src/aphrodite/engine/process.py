"""The engine in a process of its own: what runs there."""

import ctypes
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from aphrodite.domain.errors import AphroditeError, EngineDeadError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine.engine import Engine, EngineRequest
from aphrodite.engine.messages import (
    Abort,
    AbortSequence,
    EngineMessage,
    Failed,
    Heartbeat,
    Ready,
    Refused,
    Shutdown,
    StepDone,
    decode_for_engine,
    encode_for_client,
)

EXIT_REPORTED = 3
"""Exit code of a process that has sent why it ends."""

EXIT_ORPHANED = 4
"""Exit code of a process whose parent is gone."""

HEARTBEAT_S = 1.0
"""Seconds for which the process says nothing at most, while it waits for requests or between steps."""

MAX_MESSAGES_UNDER_WAY = 8
"""From the engine to its client, for each of the two ends; one is a step."""

_LINGER_MS = 5000  # for the last message to reach the client

_PR_SET_PDEATHSIG = 1  # of Linux's prctl

_log = logging.getLogger(__name__)


def run_engine(build: Callable[[], Engine], socket_path: Path) -> None:
    """Build an engine and serve it over the socket until told to shut down.

    The body of a process of its own: takes over its signals, ends it when the parent dies, and exits with
    EXIT_REPORTED when the engine could not be built or broke.
    """
    _end_with_parent(socket_path.parent)
    # Ctrl-C and a service manager's SIGTERM reach the whole group; it is the parent who decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.linger = _LINGER_MS
        # An engine faster than its client waits for it: else what is under way, and news of others behind it, pile up.
        socket.sndhwm, socket.rcvhwm = MAX_MESSAGES_UNDER_WAY, 0
        socket.connect(f"ipc://{socket_path}")
        socket.send(encode_for_client(Heartbeat()))  # connected: nobody else needs the socket's path from now on
        try:
            engine = build()
            longest_step_s = engine.time_longest_step()
            gc.collect()
            gc.freeze()  # what a model brings lives as long as the process; looking through it would stop all requests
            _Server(engine, socket).serve(longest_step_s)
            return
        except AphroditeError as failure:
            _log.debug("The engine ends.", exc_info=True)
            error = failure
        except Exception:  # noqa: BLE001  whatever it is, the client is told, and the process ends
            _log.exception("The engine broke.")
            error = EngineDeadError("The engine broke; its log says why.")
        socket.send(encode_for_client(Failed(error)))
    sys.exit(EXIT_REPORTED)


class _Server:
    """Drives an engine on behalf of the client at the other end of a socket."""

    def __init__(self, engine: Engine, socket: "zmq.Socket[bytes]") -> None:
        self._engine = engine
        self._socket = socket
        self._reported = EngineStats()
        self._last_said_s = 0.0

    def serve(self, longest_step_s: float) -> None:
        self._send(Ready(self._engine.limits, longest_step_s))
        while self._handle_messages():
            self._report(self._engine.step() if self._engine.has_unfinished else [])
        self._engine.close()

    def _handle_messages(self) -> bool:
        """Do what the client says, and wait for it when there is nothing else to do. False when it says to end."""
        idle = not self._engine.has_unfinished
        while idle or int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            if idle and not self._socket.poll(int(HEARTBEAT_S * 1000)):
                self._send(Heartbeat())
                continue
            idle = False
            message = decode_for_engine([frame.buffer for frame in self._socket.recv_multipart(copy=False)])
            match message:
                case EngineRequest():
                    self._add(message)
                case Abort():
                    self._engine.abort(message.request_id)
                case AbortSequence():
                    self._engine.abort_sequence(message.request_id, message.index)
                case Shutdown():
                    return False
        return True

    def _add(self, request: EngineRequest) -> None:
        try:
            self._engine.add(request)
        except AphroditeError as error:
            self._send(Refused(request.request_id, error))

    def _report(self, deltas: list[SequenceDelta]) -> None:
        stats = self._engine.stats()
        if deltas or stats != self._reported:
            self._reported = stats
            self._send(StepDone(deltas, stats))
        elif time.monotonic() - self._last_said_s > HEARTBEAT_S:
            self._send(Heartbeat())

    def _send(self, message: EngineMessage) -> None:
        self._last_said_s = time.monotonic()
        self._socket.send(encode_for_client(message))


def _end_with_parent(folder: Path) -> None:
    """Have this process end when its parent does, however that ends, and whatever runs here; `folder` goes as well.

    On Linux the system sees to it, even while this process is stopped, as soon as the parent's thread that started it
    ends; elsewhere a thread here waits for the parent's end.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("run_engine is the body of a process that multiprocessing started.")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="aphrodite-parent-watch", daemon=True).start()

"""One engine process as its client sees it."""

import asyncio
import atexit
import math
import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from aphrodite.engine.engine import Engine, EngineRequest
from aphrodite.engine.messages import (
    Abort,
    AbortSequence,
    EngineMessage,
    Shutdown,
    decode_for_client,
    encode_for_engine,
)
from aphrodite.engine.process import EXIT_REPORTED, MAX_MESSAGES_UNDER_WAY, run_engine

_MAX_ROOT_LENGTH = 70  # a socket's path holds about 100 characters on every system
_REPORT_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
_LISTEN_S = 1.0


class EngineSilentError(Exception):
    """The process is there and says nothing."""


class EngineLink:
    """A process that runs an engine: started when built, with a socket to it and the news of its end.

    The socket lies in a folder that only this user can enter, and is a pair: a third party cannot join. The folder is
    removed as soon as the process has said something, as nobody else is to connect.
    """

    def __init__(self, build: Callable[[], Engine]) -> None:
        """Start the process. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._exit_code: int | None = None
        self._folder = _private_folder()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.linger = 0
        self._socket.sndhwm = 0  # sending never waits; the client bounds the number of requests
        self._socket.rcvhwm = MAX_MESSAGES_UNDER_WAY
        path = self._folder / "engine"
        self._socket.bind(f"ipc://{path}")
        path.chmod(0o600)
        self._process = multiprocessing.get_context("spawn").Process(
            target=run_engine, args=(build, path), name="aphrodite-engine"
        )
        try:
            self._process.start()
        except BaseException:
            self._close_socket()
            raise
        # Else an interpreter that ends without `close` would wait for the process.
        atexit.register(self._process.kill)
        self._loop.add_reader(self._process.sentinel, self._note_end)

    def send(self, message: EngineRequest | Abort | AbortSequence | Shutdown) -> None:
        """Raises SamplingParamsError as `encode_for_engine` does."""
        # Done at once: there is no bound on what waits. To a process that is dead it waits until `close`.
        self._socket.send_multipart(encode_for_engine(message), copy=False)

    async def receive(self, patience_s: float = math.inf) -> EngineMessage | None:
        """The next message; None when the process has ended. Raises EngineSilentError when neither comes in time."""
        received = asyncio.ensure_future(self._socket.recv())
        news: set[asyncio.Future[Any]] = {received, self._ended}
        # Listens for a moment at a time: if this process is stopped meanwhile, that is no silence of the other.
        while patience_s > 0 and not (received.done() or self._ended.done()):
            await asyncio.wait(news, timeout=min(_LISTEN_S, patience_s), return_when=asyncio.FIRST_COMPLETED)
            patience_s -= _LISTEN_S
        if not received.done() and self._exit_code == EXIT_REPORTED:
            await asyncio.wait({received}, timeout=_REPORT_TIMEOUT_S)
        if not (received.done() or self._ended.done()):
            received.cancel()
            raise EngineSilentError
        if not received.done():
            received.cancel()
            return None
        shutil.rmtree(self._folder, ignore_errors=True)
        return decode_for_client(received.result())

    def describe_end(self) -> str:
        """How the process ended, as a part of a sentence."""
        code = self._exit_code
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"signal {-code}, {signal.strsignal(-code)}"

    def kill(self) -> None:
        """Have the process end at once."""
        if not self._ended.done():
            self._process.kill()

    async def stop(self) -> None:
        """Have the process end by itself, then close."""
        self.send(Shutdown())
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                while await self.receive() is not None:  # it listens once its own messages are out
                    pass
        await self.close()

    async def close(self) -> None:
        """End the process, if it has not ended, and remove every trace of it."""
        self.kill()
        await self._ended
        atexit.unregister(self._process.kill)
        self._process.close()
        self._close_socket()

    def _note_end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._exit_code = self._process.exitcode
        self._ended.set_result(None)

    def _close_socket(self) -> None:
        self._context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _private_folder() -> Path:
    """A new folder with mode 0700, whose path is short enough for a socket's."""
    root = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="aphrodite-", dir=root if len(root) <= _MAX_ROOT_LENGTH else "/tmp"))

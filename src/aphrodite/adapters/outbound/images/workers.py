"""The server's side of the processes that decode pictures."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Self

import msgspec

from aphrodite.adapters.outbound.images.budget import Budget
from aphrodite.adapters.outbound.images.limits import PixelLimits
from aphrodite.adapters.outbound.images.messages import (
    Answer,
    Hello,
    Opened,
    Refused,
    Resized,
    read_answer,
)
from aphrodite.adapters.outbound.images.processing import ImageProcessing, ResizedImage
from aphrodite.adapters.outbound.images.worker import prepare
from aphrodite.adapters.outbound.processes.frames import encode_frame
from aphrodite.adapters.outbound.processes.nursery import Nursery
from aphrodite.domain.errors import ImageTooCostlyError, WorkerError

_MIN_WORKERS, _MAX_WORKERS = 2, 8
_TIMEOUT_S = 60.0  # of each of a picture's two steps; of CPU time a worker has less
_START_TIMEOUT_S = 120.0
_LOST = (EOFError, OSError, TimeoutError, msgspec.DecodeError)  # what is seen of a worker that ended, hangs or lies


class ImageWorkers:
    """Turns image files into what the model reads, in processes that are lost when a file asks too much of them.

    Belongs to one event loop. Files are taken in turn, and all pictures that are decoded at the same time have no more
    than `limits.decoded` together. A worker is killed at a deadline, and when its caller is cancelled; the next file in
    its place has a new one forked.
    """

    def __init__(
        self,
        load: Callable[[], ImageProcessing],
        *,
        limits: PixelLimits,
        num_workers: int | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """
        Args:
            load: Makes the image processor, in a process of its own; picklable.
            limits: Most pixels of a picture, and of all that are decoded at once.
            num_workers: As many as there are processors by default, within bounds.
            timeout_s: Seconds to open a file, and again to decode and resize its picture.
        """
        self._load = partial(prepare, load, limits)
        self._num_workers = num_workers or min(max(os.cpu_count() or 1, _MIN_WORKERS), _MAX_WORKERS)
        self._timeout_s = timeout_s
        self._pixels = Budget(limits.decoded)
        self._nursery: Nursery | None = None
        self._starting = asyncio.Lock()
        self._free: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()  # None: to be forked when needed

    async def start(self) -> None:
        """Have workers wait for files. Raises WorkerError."""
        for worker in await asyncio.gather(*(self._new_worker() for _ in range(self._num_workers))):
            self._free.put_nowait(worker)

    async def read(self, data: bytes, settings: bytes = b"{}") -> ResizedImage:
        """The picture in the bytes of an image file, resized by `settings`, JSON of what a request sets.

        Raises ImageError or a child of it, ImageTooCostlyError where a worker was lost; ProcessorSettingsError;
        WorkerError when there is none.
        """
        worker = await self._free.get()
        try:
            if worker is None or worker.has_ended:  # while it had nothing to do: the file is not to blame
                worker = await self._new_worker()
            async with asyncio.timeout(self._timeout_s):
                answer = await worker.ask(settings, data)
            if isinstance(answer, Opened):
                async with self._pixels.take(answer.num_pixels), asyncio.timeout(self._timeout_s):
                    answer = await worker.ask(b"")
        except BaseException as error:
            lost, worker = worker, None
            if lost is not None:
                lost.kill()
            if isinstance(error, _LOST):
                raise ImageTooCostlyError(
                    "The image takes too much time or memory to decode; pass a smaller or a simpler one."
                ) from error
            raise
        finally:
            self._free.put_nowait(worker)
        if isinstance(answer, Refused):
            raise answer.error()
        assert isinstance(answer, Resized)
        return answer.image()

    async def close(self) -> None:
        """End the processes."""
        while not self._free.empty():
            if (worker := self._free.get_nowait()) is not None:
                worker.kill()
        if self._nursery is not None:
            self._nursery.close()

    async def _new_worker(self) -> "_Worker":
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                async with self._starting:
                    if self._nursery is not None and self._nursery.has_ended:
                        self._nursery.close()
                        self._nursery = None
                    if self._nursery is None:
                        self._nursery = await asyncio.to_thread(Nursery.start, self._load)
                return await _Worker.meet(self._nursery.fork())
        except _LOST as error:
            raise WorkerError("No process that decodes pictures can be started; the server's log says why.") from error


class _Worker:
    """A worker's process and the socket to it."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pid = pid
        self._reader = reader
        self._writer = writer

    @classmethod
    async def meet(cls, channel: socket.socket) -> Self:
        """Raises OSError or EOFError when the worker, or the nursery, has ended."""
        reader, writer = await asyncio.open_connection(sock=channel)
        try:
            hello = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        assert isinstance(hello, Hello)
        return cls(hello.pid, reader, writer)

    async def ask(self, *frames: bytes) -> Answer:
        """Raises EOFError or ConnectionError when the worker has ended."""
        for frame in frames:
            self._writer.write(encode_frame(frame))
        await self._writer.drain()
        return await read_answer(self._reader)

    @property
    def has_ended(self) -> bool:
        return self._reader.at_eof()

    def kill(self) -> None:
        """End it at once, unless it has ended: then its id may be another's by now."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._writer.close()

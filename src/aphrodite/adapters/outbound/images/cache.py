"""Pictures read before, kept by content: one that comes again, under any URL, is not decoded again."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aphrodite.adapters.outbound.images.processing import ResizedImage
from aphrodite.adapters.outbound.images.sharing import SharedRuns
from aphrodite.adapters.outbound.images.workers import ImageWorkers


class CachingImageReader:
    """The ImageReader port: what `workers` make of files, the last ones used kept up to `max_cache_bytes`.

    Equal files at the same time are decoded once. Belongs to one event loop.
    """

    def __init__(self, workers: ImageWorkers, *, max_cache_bytes: int = 128 * 1024 * 1024) -> None:
        self._workers = workers
        self._max_cache_bytes = max_cache_bytes
        self._runs = SharedRuns[ResizedImage]()
        self._images: OrderedDict[str, ResizedImage] = OrderedDict()  # the least recently used first
        self._num_bytes = 0

    async def start(self) -> None:
        """Raises WorkerError."""
        await self._workers.start()

    async def read(self, data: bytes, settings: Mapping[str, Any] = MappingProxyType({})) -> ResizedImage:
        """The picture in the bytes of an image file, resized by `settings` in place of the image processor's own.

        Raises ImageError or a child of it, ProcessorSettingsError or WorkerError.
        """
        written = json.dumps(dict(settings), sort_keys=True).encode()
        key = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest() + written.decode())
        if key in self._images:
            self._images.move_to_end(key)
            return self._images[key]
        image = await self._runs.run(key, lambda: self._workers.read(data, written))
        self._keep(key, image)
        return image

    async def close(self) -> None:
        await self._workers.close()

    def _keep(self, key: str, image: ResizedImage) -> None:
        if key in self._images or image.tiles.nbytes > self._max_cache_bytes:
            return
        self._images[key] = image
        self._num_bytes += image.tiles.nbytes
        while self._num_bytes > self._max_cache_bytes:
            _, oldest = self._images.popitem(last=False)
            self._num_bytes -= oldest.tiles.nbytes

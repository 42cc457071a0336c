"""The bytes behind an image URL, wherever it points: http(s):, data: and, where allowed, file:."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec

import httpcore2

from aphrodite.adapters.outbound.images.budget import Budget
from aphrodite.adapters.outbound.images.data_urls import BLANKS, read_data_url
from aphrodite.adapters.outbound.images.downloading import Downloader
from aphrodite.adapters.outbound.images.local_files import read_local_file
from aphrodite.adapters.outbound.images.options import FetchOptions
from aphrodite.adapters.outbound.images.pinning import PinnedBackend, Resolver, SystemResolver
from aphrodite.adapters.outbound.images.sharing import SharedRuns
from aphrodite.adapters.outbound.images.urls import parse_http_url
from aphrodite.domain.errors import ImageTimeoutError, ImageUrlError

P = ParamSpec("P")

_NUM_THREADS = 8  # for host names, files and base64
_NUM_LARGEST_FILES = 16  # that there is memory for at once


class UrlImageFetcher:
    """The ImageFetcher port over the network and the disk. Belongs to one event loop; close it when done."""

    def __init__(
        self,
        options: FetchOptions | None = None,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._options = options = options or FetchOptions()
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="image-fetch")
        self._memory = Budget(_NUM_LARGEST_FILES * options.max_image_bytes)
        self._downloads = SharedRuns[bytes]()
        self._downloader = Downloader(
            PinnedBackend(resolver or SystemResolver(self._threads), options.allowed_hosts, options.timeout_s),
            ssl_context or httpcore2.default_ssl_context(),
            max_bytes=options.max_image_bytes,
            max_redirects=options.max_redirects,
        )

    @asynccontextmanager
    async def hold(self, url: str) -> AsyncIterator[bytes]:
        """As `fetch`, with memory for the bytes until the block ends; who finds none waits, before anything is fetched.

        So it is bounded what all files take together, of requests that download and of those that wait for a reader.
        What a data: URL holds came in a body, which is counted already.
        """
        if url.lstrip(BLANKS)[:5].lower() == "data:":
            yield await self.fetch(url)
            return
        async with self._memory.take(self._options.max_image_bytes) as share:
            data = await self.fetch(url)
            share.keep(len(data))
            yield data

    async def fetch(self, url: str) -> bytes:
        """The bytes of the image file behind `url`, as they are: undecoded, and perhaps no image at all.

        Fetches of one http(s) URL at the same time share one download, and the deadline of the first of them.
        Raises ImageTooLargeError or an ImageFetchError.
        """
        options, url = self._options, url.strip(BLANKS)
        scheme = url[:5].lower()
        if scheme.startswith("http"):
            http_url = parse_http_url(url)
            return await self._downloads.run(str(http_url), lambda: self._in_time(self._downloader.download(http_url)))
        if scheme == "data:":
            return await self._in_time(self._in_thread(read_data_url, url, options.max_image_bytes))
        if scheme == "file:":
            folder = options.allowed_local_media_path
            return await self._in_time(self._in_thread(read_local_file, url, folder, options.max_image_bytes))
        raise ImageUrlError("An image URL must start with http://, https:// or data:image/.")

    async def close(self) -> None:
        """Give the threads back. Fetches that still run are the callers' to cancel before."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    async def _in_time(self, work: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._options.timeout_s) as deadline:
                return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise ImageTimeoutError(
                f"The image could not be fetched within {self._options.timeout_s:g} seconds, "
                "the limit that APHRODITE_IMAGE_FETCH_TIMEOUT sets."
            ) from error

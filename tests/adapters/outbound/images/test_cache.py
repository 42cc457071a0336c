"""The cache in front of a stand-in for the workers that counts what it is asked to read."""

import asyncio

import numpy as np
import pytest

from aphrodite.adapters.outbound.images.cache import CachingImageReader
from aphrodite.adapters.outbound.images.processing import ResizedImage
from aphrodite.domain.errors import NotAnImageError

pytestmark = pytest.mark.anyio


class Workers:
    """Makes a picture of as many bytes as its file has."""

    def __init__(self) -> None:
        self.num_reads = 0
        self.num_ended = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def read(self, data: bytes, settings: bytes) -> ResizedImage:
        self.num_reads += 1
        try:
            await self.may_go_on.wait()
        finally:
            self.num_ended += 1
        if not data:
            raise NotAnImageError("Nothing.")
        return ResizedImage(len(data), 1, np.frombuffer(data, np.uint8), data)


async def test_the_last_used_are_kept_by_content() -> None:
    workers = Workers()
    reader = CachingImageReader(workers, max_cache_bytes=20)
    one, two, three = b"1" * 8, b"2" * 8, b"3" * 8
    first, second = await reader.read(one), await reader.read(two)
    assert await reader.read(bytes(bytearray(one))) is first
    await reader.read(three)  # there is room for two
    assert await reader.read(one) is first
    assert await reader.read(two) is not second
    assert workers.num_reads == 4
    large = b"4" * 21
    assert await reader.read(large) is not await reader.read(large)
    assert await reader.read(two)
    assert workers.num_reads == 6


async def test_other_settings_make_another_picture() -> None:
    workers = Workers()
    reader = CachingImageReader(workers)
    plain = await reader.read(b"file")
    small = await reader.read(b"file", {"max_pixels": 64, "min_pixels": 16})
    assert small is not plain
    assert await reader.read(b"file", {"min_pixels": 16, "max_pixels": 64}) is small
    assert await reader.read(b"file", {}) is plain
    assert workers.num_reads == 2


async def test_errors_are_not_kept() -> None:
    workers = Workers()
    reader = CachingImageReader(workers)
    for _ in range(2):
        with pytest.raises(NotAnImageError):
            await reader.read(b"")
    assert workers.num_reads == 2


async def test_equal_files_at_the_same_time_are_read_once_and_the_last_to_leave_ends_it() -> None:
    workers = Workers()
    workers.may_go_on.clear()
    reader = CachingImageReader(workers)
    readers = [asyncio.create_task(reader.read(b"same")) for _ in range(5)]
    async with asyncio.timeout(5):
        while workers.num_reads == 0:
            await asyncio.sleep(0.001)
        readers[0].cancel()
        workers.may_go_on.set()
        images = await asyncio.gather(*readers[1:])
    assert len({id(image) for image in images}) == 1
    workers.may_go_on.clear()
    gone = asyncio.create_task(reader.read(b"other"))
    async with asyncio.timeout(5):
        while workers.num_reads < 2:
            await asyncio.sleep(0.001)
        gone.cancel()
        while workers.num_ended < 2:
            await asyncio.sleep(0.001)

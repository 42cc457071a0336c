"""Real worker processes, and files and processors that take too much."""

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests import hostile_pictures, picture_processing
from tests.builders import tiny_qwen_vl

from aphrodite.adapters.outbound.huggingface.image_processing import HuggingFaceImageProcessing, TileSize
from aphrodite.adapters.outbound.images.decoding import open_image
from aphrodite.adapters.outbound.images.limits import PixelLimits
from aphrodite.adapters.outbound.images.workers import ImageWorkers
from aphrodite.domain.errors import (
    ImageError,
    ImageTooCostlyError,
    ImageTooLargeError,
    NotAnImageError,
    ProcessorSettingsError,
    PromptError,
    WorkerError,
)

pytestmark = pytest.mark.anyio

Encode = Callable[..., bytes]
SIZE = 28  # what the tiny model reads
LIMITS = PixelLimits(decoded=50_000_000, resized=40_000)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def _tests_can_be_imported_in_other_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def processing(llava_folder: Path) -> HuggingFaceImageProcessing:
    return HuggingFaceImageProcessing(llava_folder, TileSize(SIZE, is_multiple=False), fingerprint=b"model")


@pytest.fixture(scope="module")
async def real(processing: HuggingFaceImageProcessing) -> AsyncIterator[ImageWorkers]:
    workers = ImageWorkers(processing.loader, limits=LIMITS, num_workers=1)
    await workers.start()
    yield workers
    await workers.close()


@pytest.fixture
async def plain() -> AsyncIterator[ImageWorkers]:
    workers = ImageWorkers(picture_processing.Plain, limits=LIMITS, num_workers=2)
    await workers.start()
    yield workers
    await workers.close()


def next_pid(workers: ImageWorkers) -> int:
    """Of the worker that takes the next file."""
    worker = workers._free.get_nowait()
    workers._free.put_nowait(worker)
    assert worker is not None
    return worker._pid


def stop_next(workers: ImageWorkers) -> int:
    """Have the worker that takes the next file hang."""
    pid = next_pid(workers)
    os.kill(pid, signal.SIGSTOP)
    return pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_same_pixels_as_in_this_process(
    real: ImageWorkers, processing: HuggingFaceImageProcessing, encode: Encode
) -> None:
    for format_name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        for size in ((40, 30), (30, 500), (1, 1)):
            data = encode(format_name, size)
            theirs, ours = await real.read(data), processing.read(open_image(data))
            assert np.array_equal(theirs.tiles, ours.tiles)
            assert (theirs.content_hash, theirs.width, theirs.height) == (ours.content_hash, *size)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((640, 8 * 2 * SIZE), 8),
        ((640, 8 * 2 * SIZE - 4), 4),
        ((2 * 2 * SIZE, 2000), 2),
        ((2 * 2 * SIZE - 2, 600), 1),  # less than twice would be left
        ((641, 601), 1),  # a pixel of the reduced picture would stand for pixels that are not there
    ],
)
async def test_jpegs_far_larger_than_the_model_reads_are_decoded_in_part(
    real: ImageWorkers, processing: HuggingFaceImageProcessing, size: tuple[int, int], scale: int
) -> None:
    file = io.BytesIO()
    coarse = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    read, whole = await real.read(file.getvalue()), processing.read(Image.open(file))
    assert (read.width, read.height) == (size[0] // scale, size[1] // scale)
    assert np.abs(read.tiles.astype(int) - whole.tiles.astype(int)).max() <= (0 if scale == 1 else 3)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: b"<html>", NotAnImageError, "must be one of PNG"),
        (lambda: hostile_pictures.large_png(7_000), ImageTooLargeError, "8000x7000; at most 50000000"),
        (lambda: hostile_pictures.large_png(100)[:-50], ImageError, "broken or truncated"),
        (lambda: hostile_pictures.large_png(8), ImageError, "too thin"),
        (lambda: hostile_pictures.jpeg_of_scans(5_000), ImageTooCostlyError, "more than 100 scans"),
        (lambda: hostile_pictures.png_of_chunks(1_400_000), ImageTooCostlyError, "more than 20000 parts"),
        (lambda: hostile_pictures.gif_of_comments(10_000_000), ImageTooCostlyError, "more than 20000 parts"),
    ],
    ids=["text", "pixels", "truncated", "thin", "scans", "chunks", "comments"],
)
async def test_what_is_refused_costs_no_worker(
    real: ImageWorkers, make: Callable[[], bytes], error: type[ImageError], sentence: str
) -> None:
    pid = next_pid(real)
    with pytest.raises(error, match=sentence) as caught:
        await real.read(make())
    assert type(caught.value) is error
    assert next_pid(real) == pid


async def test_settings_of_a_request(encode: Encode, tmp_path: Path) -> None:
    """As in this process; what is wrong with them costs no worker, and what they ask for is bounded."""
    processing = HuggingFaceImageProcessing(tiny_qwen_vl(tmp_path), TileSize(8, is_multiple=True), fingerprint=b"model")
    workers = ImageWorkers(processing.loader, limits=LIMITS, num_workers=1)
    await workers.start()
    data, pid = encode("PNG", (90, 60)), next_pid(workers)
    settings: dict[str, int] = {"min_pixels": 64, "max_pixels": 1024}
    for given in ({}, settings):
        theirs = await workers.read(data, json.dumps(given).encode())
        ours = processing.with_settings(given).read(open_image(data))
        assert np.array_equal(theirs.tiles, ours.tiles)
        assert theirs.content_hash == ours.content_hash
    refused: list[tuple[dict[str, Any], type[PromptError], str]] = [
        ({"pixels": 1}, ProcessorSettingsError, "has no pixels to set"),
        ({"image_mean": [0, 0, 0]}, ProcessorSettingsError, "has no image_mean to set"),
        ({"size": "large"}, ProcessorSettingsError, "does not take {'size': 'large'}"),
        ({"min_pixels": 64, "max_pixels": "many"}, ProcessorSettingsError, "does not take"),
        ({"min_pixels": 10**5, "max_pixels": 10**6}, ImageTooLargeError, "it may have 40000, .*--max-resized-pixels"),
        ({"min_pixels": 10**9, "max_pixels": 10**10}, ImageTooCostlyError, "more memory than there is"),
    ]
    for wrong, error, sentence in refused:
        with pytest.raises(error, match=sentence) as caught:
            await workers.read(data, json.dumps(wrong).encode())
        assert type(caught.value) is error
        assert next_pid(workers) == pid
    await workers.close()


@pytest.mark.parametrize(
    ("greed", "sentence"),
    [(picture_processing.Endless, "too much time or memory"), (picture_processing.Greedy, "more memory than there is")],
)
async def test_time_and_memory_are_bounded_by_the_kernel(greed: type, sentence: str, encode: Encode) -> None:
    workers = ImageWorkers(greed, limits=LIMITS, num_workers=1, timeout_s=600)  # no deadline helps
    await workers.start()
    for _ in range(2):
        with pytest.raises(ImageTooCostlyError, match=sentence):
            await workers.read(encode("PNG"))
    await workers.close()


async def test_a_worker_that_dies_costs_its_own_picture_alone(plain: ImageWorkers, encode: Encode) -> None:
    pid = stop_next(plain)
    lost, read = asyncio.create_task(plain.read(encode("PNG"))), asyncio.create_task(plain.read(encode("BMP")))
    assert (await read).width == 40
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ImageTooCostlyError, match="too much time or memory"):
        await lost
    for _ in range(3):
        assert (await plain.read(encode("PNG"))).width == 40


async def test_a_worker_that_hangs_is_killed_at_the_deadline(
    plain: ImageWorkers, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = stop_next(plain)
    monkeypatch.setattr(plain, "_timeout_s", 0.2)
    with pytest.raises(ImageTooCostlyError):
        await plain.read(encode("PNG"))
    await until(lambda: not is_alive(pid))


async def test_a_caller_that_goes_away_takes_the_work_along(plain: ImageWorkers, encode: Encode) -> None:
    pid = stop_next(plain)
    gone = asyncio.create_task(plain.read(encode("PNG")))
    await asyncio.sleep(0)
    gone.cancel()
    await until(lambda: not is_alive(pid))
    assert gone.cancelled()
    assert (await plain.read(encode("PNG"))).width == 40


async def test_pictures_share_the_pixels(plain: ImageWorkers, encode: Encode) -> None:
    async with plain._pixels.take(49_999_000):  # others are at work
        large, small = (asyncio.create_task(plain.read(encode("PNG", size))) for size in ((40, 30), (20, 20)))
        await asyncio.wait({large, small}, timeout=0.5)
        assert not large.done()
    assert (await large).width + (await small).width == 60


async def test_when_the_nursery_dies_another_one_takes_its_place(plain: ImageWorkers, encode: Encode) -> None:
    assert plain._nursery is not None
    plain._nursery._process.kill()
    plain._nursery._process.wait()
    assert (await plain.read(encode("PNG"))).width == 40  # its children live on
    os.kill(next_pid(plain), signal.SIGKILL)
    with pytest.raises(ImageTooCostlyError):
        await plain.read(encode("PNG"))
    assert (await plain.read(encode("PNG"))).width == 40


async def test_the_end(plain: ImageWorkers) -> None:
    assert plain._nursery is not None
    nursery = plain._nursery._process.pid
    children = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
    assert len(children) == 2
    await plain.close()
    await until(lambda: not any(is_alive(int(pid)) for pid in [nursery, *children]))


async def test_a_processor_that_cannot_be_loaded(capfd: pytest.CaptureFixture[str]) -> None:
    workers = ImageWorkers(picture_processing.broken, limits=LIMITS, num_workers=1)
    with pytest.raises(WorkerError, match="No process that decodes pictures"):
        await workers.start()
    await workers.close()
    assert "no such processor" in capfd.readouterr().err

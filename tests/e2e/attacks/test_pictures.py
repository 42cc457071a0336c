"""Pictures that cost their reader far more than their sender, in numbers; some senders do not wait for the answer."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import hostile_pictures
from tests.e2e.attacks.promise import MODEL, besiege, connect, http_post, promise_kept, send
from tests.e2e.server_process import SMALL, ServerProcess, image_server, running


def question(picture: bytes) -> bytes:
    return question_about(f"data:image/png;base64,{base64.b64encode(picture).decode()}")


def question_about(url: str) -> bytes:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}], "max_tokens": 2}
    return http_post("/v1/chat/completions", json.dumps(body).encode(), "Connection: close")


def ask_all(server: ServerProcess, pictures: Sequence[bytes], *, timeout_s: float = 600) -> list[tuple[int, bytes]]:
    """All at once."""
    with ThreadPoolExecutor(len(pictures)) as pool:
        return list(pool.map(lambda picture: send(server, question(picture), timeout_s=timeout_s), pictures))


def code(answer: tuple[int, bytes]) -> str:
    status, body = answer
    assert status == 400, body
    return str(json.loads(body)["error"]["code"])


def test_jpegs_of_thousands_of_scans(demo: ServerProcess) -> None:
    pictures = [hostile_pictures.jpeg_of_scans(5000 + number) for number in range(4)]
    with promise_kept(demo, "progressive JPEGs of 5,000 scans"):
        for picture in pictures[:2]:
            with connect(demo) as gone:
                gone.sendall(question(picture))
        assert {code(answer) for answer in ask_all(demo, pictures[2:])} == {"image_too_costly"}


def test_pngs_of_a_million_chunks(demo: ServerProcess) -> None:
    pictures = [hostile_pictures.png_of_chunks(1_400_000 + number) for number in range(3)]
    with promise_kept(demo, "PNGs of 1,400,000 chunks"):
        assert {code(answer) for answer in ask_all(demo, pictures)} == {"image_too_costly"}


def test_gifs_of_20_megabytes_of_comments(demo: ServerProcess) -> None:
    pictures = [hostile_pictures.gif_of_comments(10_000_000 + number) for number in range(3)]
    with promise_kept(demo, "GIFs of 20 MB of comments"):
        assert {code(answer) for answer in ask_all(demo, pictures)} == {"image_too_costly"}


@pytest.mark.attack
def test_what_no_count_catches(demo: ServerProcess) -> None:
    """Tags are not counted, and scans and chunks may be many."""
    pictures = [hostile_pictures.tiff_of_tags(900_000 + number) for number in range(3)]
    pictures += [hostile_pictures.jpeg_of_scans(100, (10_000, 4_990 + number)) for number in range(3)]
    pictures += [hostile_pictures.png_of_chunks(19_990 + number) for number in range(3)]
    with promise_kept(demo, "TIFFs of 900,000 tags, JPEGs of 100 scans, PNGs of 20,000 chunks"):
        answers = ask_all(demo, pictures)
    print([status for status, _ in answers])
    assert {status for status, _ in answers} <= {200, 400}


@pytest.mark.attack
def test_forty_pictures_of_fifty_megapixels(demo: ServerProcess) -> None:
    pictures = [hostile_pictures.large_png(6_200 + number) for number in range(40)]
    assert max(map(len, pictures)) < 9_000
    with promise_kept(demo, "40 PNGs of 50 megapixels, 8 kB each"):
        statuses = besiege(demo, [question(picture) for picture in pictures], within_s=60)
    print("answered:", len(statuses))
    assert set(statuses) == {200}


class LargeFiles(Mapping[str, bytes]):
    """A picture of 19 MB behind every path, another one behind each."""

    def __init__(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2_500, 2_500, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=0)
        self._file = file.getvalue()

    def __getitem__(self, path: str) -> bytes:
        return self._file + path.encode()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.attack
def test_a_hundred_downloads_of_19_megabytes(tmp_path: Path) -> None:
    """They come faster than they are read."""
    options = (*SMALL, "--allowed-image-hosts", "127.0.0.1")
    with image_server(LargeFiles()) as url, running(tmp_path / "log", "demo", *options) as server:
        questions = [question_about(f"{url}/{number}") for number in range(100)]
        with promise_kept(server, "100 downloads of 19 MB"):
            statuses = besiege(server, questions, within_s=120)
    print("statuses:", {status: statuses.count(status) for status in set(statuses)})
    assert statuses == [200] * 100

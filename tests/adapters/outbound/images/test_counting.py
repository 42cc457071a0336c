"""Parts of image files against counts known from how the files were made; real files pass."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tests import hostile_pictures

from aphrodite.adapters.outbound.images.counting import check_parts
from aphrodite.adapters.outbound.images.decoding import open_image
from aphrodite.domain.errors import ImageTooCostlyError


@pytest.mark.parametrize(
    ("make", "most"),
    [(hostile_pictures.jpeg_of_scans, 100), (hostile_pictures.png_of_chunks, 19_997)],
)
def test_the_limits(make: Callable[[int], bytes], most: int) -> None:
    check_parts(make(most))
    with pytest.raises(ImageTooCostlyError):
        check_parts(make(most + 1))


def test_blocks_before_a_gifs_first_frame() -> None:
    check_parts(hostile_pictures.gif_of_comments(19_000, b"x" * 255))
    with pytest.raises(ImageTooCostlyError, match="20000 parts"):
        check_parts(hostile_pictures.gif_of_comments(20_000))
    stray = hostile_pictures.gif_of_comments(0)
    with pytest.raises(ImageTooCostlyError):
        check_parts(stray[:-1].replace(b"!\xfe\0", bytes(20_001)) + b";")


def test_scans_are_counted_wherever_a_decoder_would_find_them() -> None:
    data = hostile_pictures.jpeg_of_scans(101, (64, 64))
    with pytest.raises(ImageTooCostlyError, match="more than 100 scans"):
        check_parts(data)
    comment = b"\xff\xfe" + (2 + 60_000).to_bytes(2, "big") + b"\xff\xda" * 30_000
    few = hostile_pictures.jpeg_of_scans(10, (64, 64))
    check_parts(few[:2] + comment + few[2:])  # what looks like scans inside a comment
    check_parts(few + b"\xff\xda" * 1000)  # behind the end, where phones put films
    padded = data.replace(b"\xff\xda", b"\xff\xff\xff\xda")
    assert open_image(padded).size == (64, 64)
    with pytest.raises(ImageTooCostlyError):
        check_parts(padded)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_ordinary_files_and_what_is_left_of_them(format_name: str) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, format_name, **({"progressive": True} if format_name == "JPEG" else {}))
    data = file.getvalue()
    for cut in (len(data), len(data) - 1, len(data) // 2, 20, 12, 9, 5, 1, 0):
        check_parts(data[:cut])

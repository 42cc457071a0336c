"""Image files of strangers: formats by content, sizes from the header, first frames, damage."""

import base64
import contextlib
import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from aphrodite.adapters.outbound.images.decoding import decode_data_url, open_image, to_rgb
from aphrodite.adapters.outbound.images.webp import declared_size
from aphrodite.domain.errors import ImageError, ImageTooLargeError, NotAnImageError

Encode = Callable[..., bytes]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_zeros(width: int, height: int, num_rows: int) -> bytes:
    """A grey PNG whose header says width x height, with rows of one bit a pixel."""
    rows = zlib.compress(bytes((width // 8 + 1) * num_rows), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("wrong_name", ["image/png", "image/gif", "text/html", ""])
def test_formats_are_told_by_content(format_name: str, wrong_name: str, encode: Encode) -> None:
    data = encode(format_name)
    url = f"data:{wrong_name};base64,{base64.b64encode(data).decode()}"
    assert decode_data_url(url).format == format_name
    assert decode_data_url(url).size == (40, 30)


@pytest.mark.parametrize(
    "format_name", ["PPM", "AVIF", "ICO", "TGA", "PCX", "EPS", "PDF", "JPEG2000", "SGI", "DDS", "ICNS"]
)
def test_other_formats_are_refused(format_name: str, encode: Encode) -> None:
    with pytest.raises(NotAnImageError, match="must be one of PNG, JPEG, WEBP, GIF, BMP, TIFF"):
        open_image(encode(format_name))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
        b"BM",
        b"II*\0",
        bytes(999),
    ],
)
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        open_image(data)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png_of_zeros(30_000, 30_000, 30_000)
    assert len(bomb) < 200_000
    start_s = time.perf_counter()
    with pytest.raises(ImageTooLargeError, match="too many pixels"):
        open_image(bomb)
    assert time.perf_counter() - start_s < 0.2
    header_alone = png_of_zeros(30_000, 30_000, 1)
    assert len(header_alone) < 4_000
    with pytest.raises(ImageTooLargeError):
        open_image(header_alone)


def test_the_limit_of_pixels() -> None:
    assert open_image(png_of_zeros(80, 10, 10), 800).size == (80, 10)
    with pytest.raises(ImageTooLargeError, match="80x10; at most 799 are taken"):
        open_image(png_of_zeros(80, 10, 10), 799)
    with pytest.raises(ImageTooLargeError, match="at most 50000000 are taken"):
        open_image(png_of_zeros(8_000, 7_000, 1))  # below Pillow's own limit, above ours


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (300, 7), (5, 1000)])
def test_the_size_that_a_webp_declares(size: tuple[int, int], mode: str, lossless: bool) -> None:
    file = io.BytesIO()
    Image.new(mode, size, (200, 100, 50, 128)[: len(mode)]).save(file, "WEBP", lossless=lossless)
    assert declared_size(file.getvalue()) == size
    for cut in range(40):
        declared_size(file.getvalue()[:cut])


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_limit_of_pixels_in_every_format(format_name: str, encode: Encode) -> None:
    with pytest.raises(ImageTooLargeError, match="40x30"):
        open_image(encode(format_name), 1199)


def test_headers_that_claim_the_most() -> None:
    claims = [
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 999, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x08\0;",
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\xff\0" * 2,
        b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65535, 65535, 1) + b"\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0\0",
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", 3)
        + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, 2**31 - 1), (257, 2**31 - 1), (262, 1))
        )
        + bytes(4),
        png_of_zeros(2**31 - 1, 2**31 - 1, 0),
    ]
    for data in claims:
        with pytest.raises((ImageTooLargeError, NotAnImageError)):
            open_image(data)


def test_the_first_of_10_000_frames() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1000, 1000, 0x80, 0, 0) + b"\xff\0\0\0\0\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\0"
    data = screen + frame + (b"!\xf9\x04\0\x01\0\0\0" + frame) * 9_999 + b";"
    start_s = time.perf_counter()
    image = to_rgb(open_image(data))
    assert time.perf_counter() - start_s < 1
    assert image.size == (1000, 1000)


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame(format_name: str) -> None:
    file = io.BytesIO()
    red, blue = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (9, 9), (0, 0, 255))
    options = {"lossless": True} if format_name == "WEBP" else {}
    red.save(file, format_name, save_all=True, append_images=[blue], **options)
    assert to_rgb(open_image(file.getvalue())).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format_name", FORMATS)
def test_truncated_anywhere_is_refused_or_whole(format_name: str, encode: Encode) -> None:
    data = encode(format_name)
    whole = np.asarray(to_rgb(open_image(data)))
    cuts = {*range(64), *range(64, len(data), max(1, len(data) // 60)), *range(len(data) - 30, len(data))}
    num_refused = 0
    for cut in cuts:
        try:
            image = to_rgb(open_image(data[:cut]))
        except ImageError:
            num_refused += 1
        else:  # what is missing is the mark of the end, and no pixel
            assert np.array_equal(np.asarray(image), whole), cut
    assert num_refused >= len(cuts) - 20


@pytest.mark.parametrize("format_name", FORMATS)
def test_damage_is_our_error_or_a_picture(format_name: str, encode: Encode) -> None:
    data = bytearray(encode(format_name))
    random = np.random.default_rng(3)
    for _ in range(150):
        damaged = data.copy()
        for position in random.integers(0, len(data), 4):
            damaged[position] = random.integers(0, 256)
        with contextlib.suppress(ImageError):
            assert to_rgb(open_image(bytes(damaged), 1_000_000)).mode == "RGB"


def test_palette_alpha_and_orientation_go_through_one_conversion() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, options, expected in [
        (clear, {}, (255, 255, 255)),
        (palette, {}, (10, 20, 30)),
        (Image.new("L", (4, 4), 7), {}, (7, 7, 7)),
        (Image.new("RGB", (4, 2), (1, 2, 3)), {"exif": exif}, (1, 2, 3)),
    ]:
        file = io.BytesIO()
        image.save(file, "PNG", **options)
        decoded = to_rgb(open_image(file.getvalue()))
        assert decoded.mode == "RGB"
        assert decoded.getpixel((0, 0)) == expected
        assert decoded.size == ((2, 4) if options else (4, 4))

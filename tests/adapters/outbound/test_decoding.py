"""Picture conversion against formulas in numpy, Pillow's own orientation code, and damaged files."""

import base64
import colorsys
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from aphrodite.adapters.outbound.images.decoding import decode_data_url, open_image, to_rgb
from aphrodite.domain.errors import ImageError

HEIGHT, WIDTH = 11, 13


def noise(channels: int | None = None, dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels is None else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(7).integers(0, top, shape, endpoint=True).astype(dtype)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(np.float64)[..., None] / 255
    return colour * share + 255 * (1 - share)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def check(image: Image.Image, expected: np.ndarray, tolerance: float = 0) -> None:
    before = (image.mode, image.size)
    result = to_rgb(image)
    assert (result.mode, result.size) == ("RGB", image.size)
    assert (image.mode, image.size) == before
    assert np.abs(np.asarray(result).astype(np.float64) - expected).max() <= tolerance


def test_colour_and_grey_stay_as_they_are() -> None:
    check(Image.fromarray(noise(3)), noise(3))
    check(Image.fromarray(noise()), grey(noise()))
    check(Image.fromarray(noise() > 99), grey((noise() > 99) * 255))


def test_palette() -> None:
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(noise())
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    check(image, palette[noise()])


def test_transparency_goes_on_white() -> None:
    check(Image.fromarray(noise(4)), on_white(noise(4)[..., :3], noise(4)[..., 3]), 1)
    check(Image.fromarray(noise(2)), on_white(grey(noise(2)[..., 0]), noise(2)[..., 1]), 1)


def test_palette_with_a_transparent_colour() -> None:
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(noise(top=3))
    image.putpalette(palette.tobytes())
    image.info["transparency"] = 2
    check(image, on_white(palette[noise(top=3)], np.where(noise(top=3) == 2, 0, 255)))


def test_palette_with_alpha() -> None:
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.merge("LA", [Image.fromarray(noise(2)[..., 0]), Image.fromarray(noise(2)[..., 1])])
    image.putpalette(palette.tobytes())
    assert image.mode == "PA"
    check(image, on_white(palette[noise(2)[..., 0]], noise(2)[..., 1]), 1)


def test_colour_key() -> None:
    image = Image.fromarray(noise(top=3))
    image.info["transparency"] = 1
    check(image, on_white(grey(noise(top=3)), np.where(noise(top=3) == 1, 0, 255)))


@pytest.mark.parametrize(("plain", "premultiplied"), [("RGBA", "RGBa"), ("LA", "La")])
def test_premultiplied_alpha(plain: str, premultiplied: str) -> None:
    image = Image.fromarray(noise(len(plain)))
    assert image.mode == plain
    colour = noise(4)[..., :3] if plain == "RGBA" else grey(noise(2)[..., 0])
    # Small alphas lose precision in the premultiplied form, but weigh little then.
    check(image.convert(premultiplied), on_white(colour, noise(len(plain))[..., -1]), 2)


def test_cmyk() -> None:
    ink = noise(4).astype(np.float64) / 255
    check(Image.fromarray(noise(4), "CMYK"), 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:]), 1)


def test_ycbcr() -> None:
    y, cb, cr = (noise(3)[..., i].astype(np.float64) for i in range(3))
    expected = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], axis=2
    )
    check(Image.fromarray(noise(3), "YCbCr"), expected.clip(0, 255), 2)


def test_hsv() -> None:
    expected = np.apply_along_axis(lambda hsv: colorsys.hsv_to_rgb(*(hsv / 255)), 2, noise(3).astype(np.float64)) * 255
    check(Image.fromarray(noise(3), "HSV"), expected, 2)


def test_lab() -> None:
    rgb = noise(3) // 2 + 64  # 8 bits of CIELAB are too coarse for the dark to compare
    check(Image.fromarray(_lab_of(rgb), "LAB"), rgb, 10)


def _lab_of(rgb: np.ndarray) -> np.ndarray:
    """CIELAB under D50 of sRGB (IEC 61966-2-1, CIE 15), L over 0..255, a and b signed."""
    values = rgb / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    ratio = linear @ np.array(to_xyz).T / np.array([0.96422, 1.0, 0.82521])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = (116 * f[..., 1] - 16) * 2.55
    a, b = 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    return np.stack([lightness, a % 256, b % 256], axis=2).round().astype(np.int64).astype(np.uint8)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bits_are_scaled_and_not_clipped(mode: str) -> None:
    values = noise(dtype=np.uint16, top=65535)
    stored = values.astype("<u2" if mode == "I;16" else ">u2")
    check(Image.frombytes(mode, (WIDTH, HEIGHT), stored.tobytes()), grey(values >> 8))


def test_16_bit_png_from_a_file() -> None:
    values = noise(dtype=np.uint16, top=65535)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    check(open_image(file.getvalue()), grey(values >> 8))


def test_32_bit_integers() -> None:
    check(Image.fromarray(noise(dtype=np.int32)), grey(noise()))
    check(Image.fromarray(noise(dtype=np.int32, top=65535)), grey(noise(dtype=np.int32, top=65535) >> 8))


def test_floats() -> None:
    values = noise().astype(np.float32)
    check(Image.fromarray(values), grey(noise()))
    check(Image.fromarray(values / 255), grey(noise()))
    check(Image.fromarray(np.full((3, 4), np.nan, np.float32)), np.zeros((3, 4, 3)))


@pytest.mark.parametrize("size", [(1, 1), (2000, 30), (1, 40)])
@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]
)
def test_every_mode_at_every_size(mode: str, size: tuple[int, int]) -> None:
    result = to_rgb(Image.new(mode, size))
    assert (result.mode, result.size) == ("RGB", size)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(noise(3)).save(file, "PNG", exif=exif)
    image = Image.open(file)
    expected = np.asarray(ImageOps.exif_transpose(image))
    result = np.asarray(to_rgb(Image.open(file)))
    assert np.array_equal(result, expected)
    assert result.shape[:2] == ((WIDTH, HEIGHT) if 5 <= orientation <= 8 else (HEIGHT, WIDTH))


@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(3)).save(file, "PNG", exif=exif)
    assert np.array_equal(np.asarray(to_rgb(Image.open(file))), noise(3))


def test_arrays() -> None:
    assert np.array_equal(np.asarray(to_rgb(noise(3))), noise(3))
    assert np.array_equal(np.asarray(to_rgb(noise(3)[::2, ::-1])), noise(3)[::2, ::-1])


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (noise(3).astype(np.float32), "must be uint8"),
        (noise(4), r"\[11, 13, 4\]"),
        (noise(), r"\[11, 13\]"),
        (np.zeros((0, 5, 3), np.uint8), "has no pixels: its size is 5x0"),
        (Image.new("RGB", (5, 0)), "has no pixels: its size is 5x0"),
        ("picture.png", "got str"),
        (object(), "got object"),
    ],
)
def test_what_is_no_picture(image: object, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        to_rgb(image)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("save", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_files(save: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, save)
    data = file.getvalue()
    with pytest.raises(ImageError) as caught:
        open_image(data[: len(data) // 2])
    assert caught.value.__cause__ is not None
    assert str(caught.value.__cause__) not in str(caught.value)


def test_truncated_file_opened_by_the_user() -> None:
    data = png(Image.fromarray(noise(3)))
    image = Image.open(io.BytesIO(data[:-60]))
    with pytest.raises(ImageError, match="broken or truncated"):
        to_rgb(image)


def test_file_closed_before_it_was_read() -> None:
    with Image.open(io.BytesIO(png(Image.fromarray(noise(3))))) as image:
        pass
    with pytest.raises(ImageError, match="broken or truncated"):
        to_rgb(image)


@pytest.mark.parametrize("make", [lambda data: data, lambda data: data.replace("base64", "BASE64"), lambda d: d + "\n"])
def test_data_url(make: Callable[[str], str]) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(Image.fromarray(noise(3)))).decode()
    assert np.array_equal(np.asarray(decode_data_url(make(url))), noise(3))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("data:image/png;base64,@@@@", "not valid base64"),
        ("data:image/png;base64,abcde", "not valid base64"),
        ("data:image/png;base64,\u00e9\u00e9\u00e9\u00e9", "not valid base64"),
        ("data:image/png,abcd", "must be base64"),
        ("data:image/png;base64", "must look like"),
        ("http://example.com/a.png", "must look like"),
        ("data:image/png;base64,", "cannot be read"),
        ("data:text/plain;base64,aGVsbG8=", "cannot be read"),
    ],
)
def test_bad_data_urls(url: str, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        decode_data_url(url)


def test_formats_that_start_other_programs_are_not_opened() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(ImageError, match="must be one of PNG"):
        open_image(postscript)


@pytest.mark.parametrize("factor", [1.5, 3])
def test_too_many_pixels(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(HEIGHT * WIDTH / factor))
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(png(Image.fromarray(noise(3))))
    with pytest.raises(ImageError, match="too many pixels"):
        to_rgb(noise(3))

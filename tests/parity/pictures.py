"""Pictures of every size, mode and orientation, each with what a person would call its RGB pixels.

The oracle is plain numpy on the pixels that the picture was made of; no library converts anything.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZES = ((1, 1), (2, 1), (1, 3), (3, 3), (5, 100), (28, 28), (29, 27), (333, 250), (2000, 30), (30, 2000))
MODES = ("L", "LA", "P", "P with transparency", "RGB", "RGBA", "CMYK", "I;16", "array")

Pixels = np.ndarray  # uint8 [height, width, ...]


@dataclass(frozen=True)
class Picture:
    """What is given to `LLM.generate`, and what transformers is given in its place."""

    given: Image.Image | np.ndarray
    rgb: Image.Image


def make(mode: str, width: int, height: int) -> Picture:
    """A picture of 16 random colours in large fields, so that resizing leaves some contrast."""
    rng = np.random.default_rng([width, height, MODES.index(mode)])
    shape = (height, width)
    fields = rng.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    rows, columns = (np.arange(side) * 4 // side for side in shape)
    pixels = fields[rows][:, columns]  # [height, width, 4]
    given, rgb = _MAKERS[mode](pixels, rng)
    return Picture(given, Image.fromarray(rgb))


def _on_white(colors: Pixels, alpha: Pixels) -> Pixels:
    share = alpha.astype(np.float64)[..., None] / 255
    return np.rint(colors * share + 255 * (1 - share)).astype(np.uint8)


def _gray(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=-1)


def _l(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    return Image.fromarray(pixels[..., 0]), _gray(pixels[..., 0])


def _la(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    return Image.fromarray(pixels[..., :2].copy(), "LA"), _on_white(_gray(pixels[..., 0]), pixels[..., 1])


def _p(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0])
    image.putpalette(palette.tobytes())
    return image, palette[pixels[..., 0]]


def _p_with_transparency(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    image, colors = _p(pixels, rng)
    hidden = int(pixels[0, 0, 0])
    image.info["transparency"] = hidden
    return image, np.where((pixels[..., 0] == hidden)[..., None], np.uint8(255), colors)


def _rgb(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    return Image.fromarray(pixels[..., :3].copy()), pixels[..., :3]


def _rgba(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    return Image.fromarray(pixels), _on_white(pixels[..., :3], pixels[..., 3])


def _cmyk(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    light = 255 - pixels.astype(np.float64)
    return Image.fromarray(pixels, "CMYK"), np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)


def _i16(pixels: Pixels, rng: np.random.Generator) -> tuple[Image.Image, Pixels]:
    values = pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1]
    return Image.fromarray(values), _gray(pixels[..., 0])


def _array(pixels: Pixels, rng: np.random.Generator) -> tuple[np.ndarray, Pixels]:
    return pixels[..., :3], pixels[..., :3]


_MAKERS = dict(zip(MODES, (_l, _la, _p, _p_with_transparency, _rgb, _rgba, _cmyk, _i16, _array), strict=True))

# EXIF 2.32, table 4: where row 0 and column 0 of the stored pixels belong in the picture.
ORIENTATIONS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


def turned(orientation: int) -> Picture:
    """A PNG file whose EXIF data say how to turn it."""
    stored = np.asarray(make("RGB", 90, 60).rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "PNG", exif=exif)
    return Picture(Image.open(file), Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](stored))))

"""Pictures whose metadata says how they are to be turned: turned once, by Pillow's own rules, and never again."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from aphrodite.adapters.outbound.images.decoding import open_image, to_rgb

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F")
ORIENTATIONS = range(1, 9)


def drawing(mode: str = "RGB") -> Image.Image:
    """Blocks of 8 pixels, each in a colour of its own, so that JPEG keeps them apart."""
    colours = np.random.default_rng(3).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(colours, 8, axis=0), 8, axis=1))
    if mode in ("I;16", "I", "F"):
        return image.convert("L").convert(mode)
    return image.convert("L").convert("PA") if mode == "PA" else image.convert(mode)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def file_with(format_name: str, place: str, orientation: int) -> bytes:
    file = io.BytesIO()
    options: dict[str, object] = {"exif": exif(orientation)} if place == "exif" else {"xmp": xmp(orientation)}
    if format_name == "PNG" and place == "xmp":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
        options = {"pnginfo": text}
    drawing().save(file, format_name, **options, **({"lossless": True} if format_name == "WEBP" else {}))
    return file.getvalue()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("place", ["exif", "xmp"])
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_files_are_turned_as_pillow_turns_them(format_name: str, place: str, orientation: int) -> None:
    data = file_with(format_name, place, orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert (expected.size == drawing().size) == (orientation < 5)
    once = to_rgb(open_image(data))
    assert np.array_equal(np.asarray(once), np.asarray(expected))
    assert np.array_equal(np.asarray(to_rgb(once)), np.asarray(once))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_an_upright_picture_stays_as_it_is(mode: str, orientation: int) -> None:
    image = drawing(mode)
    image.info["exif"] = exif(orientation).tobytes()
    once = to_rgb(image)
    assert once.size == (drawing().size if orientation < 5 else drawing().size[::-1])
    assert once.info == {}
    assert np.array_equal(np.asarray(to_rgb(once)), np.asarray(once))
    assert image.info["exif"]  # the caller's

"""Any picture a user may pass, as RGB: the rules of conversion, and pictures inside data: URLs."""

import io

import numpy as np
from PIL import Image, ImageCms

from aphrodite.adapters.outbound.images import webp
from aphrodite.adapters.outbound.images.data_urls import read_data_url
from aphrodite.domain.errors import ImageError, ImageTooCostlyError, ImageTooLargeError, NotAnImageError

MAX_IMAGE_PIXELS = 50_000_000  # of one image, where nothing else is asked for

_BAND_ROWS = 256
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, table 4

# Formats that are decoded from bytes of strangers. Pillow knows more, but some of those start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def to_rgb(image: object) -> Image.Image:
    """A PIL image of any mode, or a uint8 array [height, width, 3], as an RGB image; the caller's stays as it is.

    EXIF orientation is applied; transparency is put on white; 16 bits a channel become the upper 8 of them; integers
    of 32 bits are read as 8 bits, or as 16 where they exceed 255; floats as 0..1, or as 0..255 where they exceed 1.
    What comes out carries no metadata, which would have all this done a second time.

    Raises ImageError for a broken or empty picture and for anything that is no picture.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"An image must be a PIL image or a uint8 array [height, width, 3], got {type(image).__name__}."
        )
    _check_size(image.size)
    try:
        image.load()  # files are read when first needed, so here is where a truncated one shows
        upright = _convert(_upright(image))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise _broken(error) from error
    upright.info.clear()
    return upright


def open_image(data: bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decode the bytes of an image file (PNG, JPEG, WebP, GIF, BMP, TIFF), its first frame.

    Raises NotAnImageError when the bytes are no such file, ImageTooLargeError when it holds more than `max_pixels`
    pixels (or more than Pillow finds safe) and ImageError when it is damaged.
    """
    image = open_header(data, max_pixels)
    try:
        image.load()
    except Exception as error:  # as above
        raise _broken(error) from error
    return image


def open_header(data: bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """The image in a file's bytes, its pixels still to be decoded: the format and the size are known and judged.

    Raises NotAnImageError or ImageTooLargeError.
    """
    if (size := webp.declared_size(data)) is not None:
        _check_size(size, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("The image has too many pixels; pass a smaller one.") from error
    except MemoryError as error:
        raise _broken(error) from error
    except Exception as error:  # as above
        raise NotAnImageError(f"The image cannot be read; it must be one of {', '.join(_FORMATS)}.") from error
    _check_size(image.size, max_pixels)
    return image


def decode_data_url(url: str) -> Image.Image:
    """The picture inside a URL `data:image/...;base64,...` (RFC 2397). Raises ImageError."""
    return open_image(read_data_url(url))


def _broken(error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageTooCostlyError("The image takes more memory to decode than there is for it; pass a smaller one.")
    return ImageError("The image is broken or truncated and cannot be decoded.")


def _check_size(size: tuple[int, int], max_pixels: int | None = None) -> None:
    width, height = size
    if width == 0 or height == 0:
        raise ImageError(f"The image has no pixels: its size is {width}x{height}.")
    # Pillow warns at this limit and refuses at twice of it. One warning a process helps no server.
    limits = [limit for limit in (max_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
    if limits and width * height > min(limits):
        raise ImageTooLargeError(f"The image has too many pixels, {width}x{height}; at most {min(limits)} are taken.")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(
            "An image array must be uint8 with the shape [height, width, 3], "
            f"got {array.dtype} with the shape {list(array.shape)}."
        )
    if array.size == 0:
        raise ImageError(f"The image has no pixels: its size is {array.shape[1]}x{array.shape[0]}.")
    image = Image.fromarray(np.ascontiguousarray(array))
    _check_size(image.size)
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # noqa: BLE001 - damaged EXIF data says nothing, and the pixels do not need it
        orientation = None
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _convert(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if mode == "I":
        values = np.array(image)
        wide = values.max() > 255
        np.clip(values, 0, 65535 if wide else 255, out=values)  # in place: pictures are large
        values >>= 8 if wide else 0
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if mode == "F":
        values = np.nan_to_num(np.array(image), copy=False)
        values *= 255 if values.max() <= 1 else 1
        np.clip(values, 0, 255, out=values)
        return Image.fromarray(np.rint(values, out=values).astype(np.uint8)).convert("RGB")
    if mode == "LAB":
        return _lab_to_rgb(image)
    if mode == "La":
        image = image.convert("LA")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image)
    # A copy even of RGB: what is in the caller's hands may change under us.
    return image.convert("RGB") if mode != "RGB" else image.copy()


def _on_white(image: Image.Image) -> Image.Image:
    """A band at a time: in the middle of it there are four pictures."""
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND_ROWS):
        above = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height))).convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB"), (0, top))
    return result


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow converts from CIELAB only with colour management.
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise ImageError("The image is in CIELAB colours and cannot be converted; pass it as RGB.")
    return converted

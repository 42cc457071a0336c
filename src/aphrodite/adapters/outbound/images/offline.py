"""Pictures that the user of `LLM` names instead of opening them."""

import os
from pathlib import Path

from PIL import Image

from aphrodite.adapters.outbound.images.decoding import decode_data_url, open_image
from aphrodite.domain.errors import ImageUnreachableError, ImageUrlError


def open_picture_file(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file of this machine. Raises ImageError."""
    try:
        data = Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no such file"
        raise ImageUnreachableError(f"The image {os.fspath(path)[:200]!r} cannot be opened: {reason}.") from error
    return open_image(data)


def open_picture_url(url: str) -> Image.Image:
    """The picture in a data: URL. Others may come from strangers, and this process is the user's: raises ImageError."""
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        raise ImageUrlError(
            "LLM opens no file:// URLs, which messages of strangers may hold; pass the file as "
            '{"type": "image_pil", "image_pil": pathlib.Path(...)}.'
        )
    if scheme in ("http", "https"):
        raise ImageUrlError(
            'LLM fetches nothing; download it and pass {"type": "image_pil", "image_pil": PIL.Image.open(...)}.'
        )
    return decode_data_url(url)

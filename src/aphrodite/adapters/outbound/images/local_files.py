"""Images on the server's own disk, by file: URLs (RFC 8089), from one folder only."""

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from aphrodite.adapters.outbound.images.limits import check_num_bytes
from aphrodite.domain.errors import ImageForbiddenError, ImageUnreachableError, ImageUrlError

_FORM = re.compile(r"file://(?:localhost)?(/[^?#]*)", re.IGNORECASE | re.DOTALL)


def read_local_file(url: str, folder: Path | None, max_bytes: int) -> bytes:
    """The bytes of the file that `file:///...` names, which must lie in `folder` once links and `..` are resolved.

    Raises ImageUrlError, ImageForbiddenError, ImageUnreachableError or ImageTooLargeError.
    """
    if folder is None:
        raise ImageForbiddenError(
            "This server reads no files for image URLs. An operator can allow it with --allowed-local-media-path."
        )
    form = _FORM.fullmatch(url)
    if form is None:
        raise ImageUrlError("The URL of an image file must look like file:///folder/image.png.")
    try:
        path = unquote_to_bytes(form[1])
    except UnicodeError as error:
        raise ImageUrlError("The URL of the image file holds characters that no file name has.") from error
    if b"\0" in path:
        raise ImageUrlError("The URL of the image file holds characters that no file name has.")
    # Judged before it is known whether the file exists: nothing is told about files elsewhere.
    real = Path(os.path.realpath(os.fsdecode(path)))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise ImageForbiddenError("The image file is not allowed: it is outside of --allowed-local-media-path.")
    try:
        return _read(real, max_bytes)
    except OSError as error:
        raise ImageUnreachableError("The image file does not exist or cannot be read.") from error


def _read(path: Path, max_bytes: int) -> bytes:
    # O_NOFOLLOW: a link put there since it was resolved is not followed. O_NONBLOCK: a named pipe does not hold us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ImageForbiddenError("The image file is not allowed: it is no regular file.")
        data = file.read(max_bytes + 1)
    check_num_bytes(len(data), max_bytes)
    return data

"""The bytes inside data: URLs (RFC 2397)."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from aphrodite.adapters.outbound.images.limits import check_num_bytes
from aphrodite.domain.errors import ImageUrlError

BLANKS = "".join(map(chr, range(0x21)))
"""What may stand around a URL, for browsers as for us."""


def read_data_url(url: str, max_bytes: int | None = None) -> bytes:
    """The bytes of `data:image/...;base64,...`; what kind of image they are, only they say.

    Raises ImageUrlError for another form and ImageTooLargeError for more than `max_bytes` bytes.
    """
    header, comma, payload = url.partition(",")
    header = header.lstrip(BLANKS)
    if not header.lower().startswith("data:") or not comma:
        raise ImageUrlError("An image URL with data must look like data:image/png;base64,....")
    if not header.lower().endswith(";base64"):
        raise ImageUrlError("The data of an image URL must be base64, as in data:image/png;base64,....")
    try:
        # As in any URL, characters may be percent-encoded; `+`, `/` and `=` often are.
        encoded = unquote_to_bytes(payload) if "%" in payload else payload.encode("ascii")
        encoded = encoded.translate(None, b" \t\r\n\f")
        if max_bytes is not None:
            check_num_bytes(len(encoded) * 3 // 4 - 2, max_bytes)  # at least so many: padding stands for up to 2 bytes
        if not encoded.endswith(b"="):
            encoded += b"=" * (-len(encoded) % 4)  # browsers do without padding, too
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise ImageUrlError("The data of the image URL is not valid base64.") from error
    if max_bytes is not None:
        check_num_bytes(len(data), max_bytes)
    return data

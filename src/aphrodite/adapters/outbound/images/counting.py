"""Parts of an image file, counted before it is decoded: each costs the decoder far more time than it takes bytes."""

import re
import struct
from collections.abc import Iterator

from aphrodite.domain.errors import ImageTooCostlyError

_MAX_PARTS = 20_000  # of a file: a JPEG's segments, a PNG's chunks, what stands before a GIF's first frame
_MAX_SCANS = 100  # of a JPEG, each of which may pass over the whole picture; progressive ones have about ten

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)  # the others stand inside a scan
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def check_parts(data: bytes) -> None:
    """Raises ImageTooCostlyError for a file of too many parts. What else may be wrong with it is the decoder's to say.

    Takes some milliseconds at most: counting ends at the limit.
    """
    parts: Iterator[bool]
    if data.startswith(b"\xff\xd8"):
        parts = _jpeg_segments(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        parts = _png_chunks(data)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        parts = _gif_blocks(data)
    else:
        return
    num_scans = 0
    for num_parts, is_scan in enumerate(parts, start=1):
        num_scans += is_scan
        if num_scans > _MAX_SCANS:
            raise ImageTooCostlyError(f"The JPEG has more than {_MAX_SCANS} scans; save it with fewer of them.")
        if num_parts > _MAX_PARTS:
            raise ImageTooCostlyError(f"The image file has more than {_MAX_PARTS} parts; save the picture anew.")


def _jpeg_segments(data: bytes) -> Iterator[bool]:
    """For each segment, whether it begins a scan (ITU-T T.81, annex B)."""
    position = 2
    while (marker := _JPEG_MARKER.search(data, position)) is not None and marker[1][0] != _END_OF_IMAGE:
        yield marker[1][0] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _png_chunks(data: bytes) -> Iterator[bool]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield False
        if kind == b"IEND":
            return
        position += 12 + length


def _gif_blocks(data: bytes) -> Iterator[bool]:
    """What stands before the first frame: extensions, in blocks of up to 255 bytes, and stray bytes."""
    flags = data[10:11] or b"\0"
    position = 13 + (3 << (flags[0] & 7) + 1 if flags[0] & 0x80 else 0)
    while data[position : position + 1] not in (b"", b",", b";"):
        yield False
        if data[position] != ord("!"):
            position += 1
            continue
        position += 2
        while size := int.from_bytes(data[position : position + 1]):
            yield False
            position += 1 + size
        position += 1

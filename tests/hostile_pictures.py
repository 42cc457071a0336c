"""Image files that cost their reader far more than their sender."""

import io
import struct
import zlib

from PIL import Image

_SOS = b"\xff\xda"


def jpeg_of_scans(num_scans: int, size: tuple[int, int] = (4000, 4000)) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each passes over all blocks, in some 80 bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, (90, 120, 60)).save(file, "JPEG", progressive=True, quality=50)
    data = file.getvalue()
    last = data.rindex(_SOS)
    scan = data[last:-2]  # up to the end of the image
    return data[:-2] + scan * (num_scans - data.count(_SOS)) + data[-2:]


def png_of_chunks(num_chunks: int) -> bytes:
    """A small PNG behind empty chunks of a kind that nobody knows."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (90, 120, 60)).save(file, "PNG")
    data = file.getvalue()
    after_header = 8 + 12 + 13
    return data[:after_header] + png_chunk(b"teSt", b"") * num_chunks + data[after_header:]


def gif_of_comments(num_blocks: int, block: bytes = b"x") -> bytes:
    """A small GIF behind one comment in blocks of a byte."""
    file = io.BytesIO()
    Image.new("P", (40, 30), 1).save(file, "GIF")
    data = file.getvalue()
    after_palette = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    comment = b"!\xfe" + (bytes([len(block)]) + block) * num_blocks + b"\0"
    return data[:after_palette] + comment + data[after_palette:]


def tiff_of_tags(num_tags: int) -> bytes:
    """A BigTIFF whose directory has so many entries."""
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)
    entries = b"".join(struct.pack("<HHQQ", tag % 60000 + 300, 4, 1, 1) for tag in range(num_tags))
    return header + struct.pack("<Q", num_tags) + entries + bytes(8)


def large_png(num_rows: int, width: int = 8000) -> bytes:
    """A black picture of one bit a pixel: a byte of the file for some 8,000 pixels."""
    rows = zlib.compress(bytes((width // 8 + 1) * num_rows), 9)
    header = struct.pack(">IIBBBBB", width, num_rows, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

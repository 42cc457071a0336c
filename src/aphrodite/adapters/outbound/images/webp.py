"""The size that a WebP file declares. Pillow takes the memory of two whole pictures before it tells."""


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels (RFC 9649, section 2.7); None for what is no WebP file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + _integer(body[4:7]), 1 + _integer(body[7:10])
    if kind == b"VP8L":
        bits = _integer(body[1:5])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _integer(body[6:8]) & 0x3FFF, _integer(body[8:10]) & 0x3FFF


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little")

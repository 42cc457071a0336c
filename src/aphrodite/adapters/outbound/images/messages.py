"""What crosses between the server and the processes that decode: frames of a length in four bytes and a message.

    server                     worker
    bytes of a file     ──▶    counts its parts, reads its header
                        ◀──    Opened: so many pixels
    nothing, empty      ──▶    once the server has room for so many
                        ◀──    Resized

Refused may come in place of either answer. A worker has met hostile bytes: nothing of its is unpickled.
"""

import asyncio
import socket

import msgspec
import numpy as np

from aphrodite.adapters.outbound.images.processing import ResizedImage
from aphrodite.domain import errors
from aphrodite.domain.errors import ImageError


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """The worker waits for its first file."""

    pid: int


class Opened(msgspec.Struct, tag="opened", frozen=True):
    """The file is an image and may be decoded."""

    num_pixels: int


class Resized(msgspec.Struct, tag="resized", frozen=True):
    """A ResizedImage."""

    width: int
    height: int
    shape: tuple[int, ...]
    tiles: bytes
    content_hash: bytes
    rows: int
    columns: int

    @classmethod
    def of(cls, image: ResizedImage) -> "Resized":
        tiles = image.tiles
        return cls(
            image.width, image.height, tiles.shape, tiles.tobytes(), image.content_hash, image.rows, image.columns
        )

    def image(self) -> ResizedImage:
        tiles = np.frombuffer(self.tiles, np.uint8).reshape(self.shape)
        return ResizedImage(self.width, self.height, tiles, self.content_hash, self.rows, self.columns)


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """An ImageError: the name of its type, and its sentence."""

    kind: str
    sentence: str

    def error(self) -> ImageError:
        error: ImageError = getattr(errors, self.kind)(self.sentence)
        return error


Answer = Hello | Opened | Resized | Refused

_LENGTH_BYTES = 4
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_frame(message: bytes | Answer) -> bytes:
    frame = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
    return len(frame).to_bytes(_LENGTH_BYTES, "big") + frame


def receive(channel: socket.socket) -> bytes | None:
    """The next frame; None when the other end is closed."""
    length = _receive_exactly(channel, _LENGTH_BYTES)
    return None if length is None else _receive_exactly(channel, int.from_bytes(length, "big"))


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Raises EOFError when the other end is closed and msgspec.DecodeError for what is no answer."""
    length = await reader.readexactly(_LENGTH_BYTES)
    return _decoder.decode(await reader.readexactly(int.from_bytes(length, "big")))


def _receive_exactly(channel: socket.socket, num_bytes: int) -> bytes | None:
    buffer = bytearray(num_bytes)
    view = memoryview(buffer)
    while view:
        num_received = channel.recv_into(view)
        if num_received == 0:
            return None
        view = view[num_received:]
    return bytes(buffer)

"""What crosses between the server and the processes that decode.

    server                     worker
    settings, a JSON object
    bytes of a file     ──▶    counts its parts, reads its header
                        ◀──    Opened: so many pixels
    nothing, empty      ──▶    once the server has room for so many
                        ◀──    Resized

Refused may come in place of either answer. A worker has met hostile bytes: nothing of its is unpickled.
"""

import asyncio

import msgspec
import numpy as np

from aphrodite.adapters.outbound.images.processing import ResizedImage
from aphrodite.adapters.outbound.processes.frames import LENGTH_BYTES, encode_frame
from aphrodite.domain import errors
from aphrodite.domain.errors import PromptError


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
    """An ImageError or a ProcessorSettingsError: the name of its type, and its sentence."""

    kind: str
    sentence: str

    def error(self) -> PromptError:
        error: PromptError = getattr(errors, self.kind)(self.sentence)
        return error


Answer = Hello | Opened | Resized | Refused

_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_answer(answer: Answer) -> bytes:
    return encode_frame(msgspec.msgpack.encode(answer))


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Raises EOFError when the other end is closed and msgspec.DecodeError for what is no answer."""
    length = await reader.readexactly(LENGTH_BYTES)
    return _decoder.decode(await reader.readexactly(int.from_bytes(length, "big")))

"""A process that may be lost: it turns the image files of strangers, one by one, into what the model reads.

Before it opens a file, and again before it decodes it, it bounds what it may take from there on.
"""

import json
import math
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from aphrodite.adapters.outbound.images import webp
from aphrodite.adapters.outbound.images.counting import check_parts
from aphrodite.adapters.outbound.images.decoding import open_header, to_rgb
from aphrodite.adapters.outbound.images.limits import PixelLimits
from aphrodite.adapters.outbound.images.messages import Answer, Hello, Opened, Refused, Resized, encode_answer
from aphrodite.adapters.outbound.images.processing import ImageProcessing
from aphrodite.adapters.outbound.processes.frames import receive
from aphrodite.adapters.outbound.processes.limits import data_bytes, limit_cpu, limit_data
from aphrodite.adapters.outbound.processes.nursery import Serve
from aphrodite.domain.errors import ImageTooCostlyError, PromptError

_BASE_CPU_S = 5
_CPU_S_PER_PIXEL = 0.2e-6  # some three times what the dearest formats take on a processor of 2020
_BASE_BYTES = 128 * 2**20
_BYTES_PER_PIXEL = 16  # what a WebP with transparency takes; others take half of it


def prepare(load: Callable[[], ImageProcessing], limits: PixelLimits) -> Serve:
    """What every worker does, with the image processor loaded."""
    return partial(_serve, load(), limits)


def _serve(processing: ImageProcessing, limits: PixelLimits, channel: socket.socket) -> None:
    """Work until the server closes the channel."""
    channel.sendall(encode_answer(Hello(os.getpid())))
    while (settings := receive(channel)) is not None and (data := receive(channel)) is not None:
        channel.sendall(encode_answer(_answer(channel, json.loads(settings), data, processing, limits)))


def _answer(
    channel: socket.socket, settings: dict[str, Any], data: bytes, processing: ImageProcessing, limits: PixelLimits
) -> Answer:
    try:
        before = data_bytes()
        width, height = webp.declared_size(data) or (0, 0)
        _limit(before, min(width * height, limits.decoded))
        check_parts(data)
        image = open_header(data, limits.decoded)
        num_pixels = image.width * image.height + (limits.resized if settings else 0)
        channel.sendall(encode_answer(Opened(num_pixels)))
        if receive(channel) is None:
            raise SystemExit
        _limit(before, num_pixels)
        processing = processing.with_settings(settings)
        if processing.target_edge is not None:
            _reduce(image, processing.target_edge)
        picture = to_rgb(image)
        del image  # some formats keep as much again as their picture takes
        resized = processing.resize(picture)
        if settings:
            limits.check_resized(math.prod(resized.tiles.shape[:3]))
        return Resized.of(resized)
    except PromptError as error:
        return Refused(type(error).__name__, str(error))
    except MemoryError:
        return Refused(ImageTooCostlyError.__name__, "The image takes more memory than there is for it.")


def _reduce(image: Image.Image, target_edge: int) -> None:
    """Have a JPEG decoded at an eighth, a quarter or a half where that leaves at least twice of what the model reads.

    Of whole blocks only: else the last pixels of the reduced picture would stand for more than there is.
    """
    for scale in (8, 4, 2):
        width, height = image.width // scale, image.height // scale
        if (width * scale, height * scale) == image.size and min(width, height) >= 2 * target_edge:
            image.draft(None, (width, height))
            return


def _limit(before: int | None, num_pixels: int) -> None:
    """Bound the CPU time from here on, and the memory above what there was before."""
    limit_cpu(_BASE_CPU_S + num_pixels * _CPU_S_PER_PIXEL)
    if before is not None:
        limit_data(before + _BASE_BYTES + num_pixels * _BYTES_PER_PIXEL)

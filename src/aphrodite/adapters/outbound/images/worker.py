"""A process that may be lost: it turns the image files of strangers, one by one, into what the model reads.

Before it opens a file, and again before it decodes it, it bounds what it may take from there on. The kernel holds it to
that: at the limit of CPU time the process ends, at the limit of memory an allocation fails.
"""

import os
import resource
import signal
import socket
import time

from PIL import Image

from aphrodite.adapters.outbound.images import webp
from aphrodite.adapters.outbound.images.counting import check_parts
from aphrodite.adapters.outbound.images.decoding import open_header, to_rgb
from aphrodite.adapters.outbound.images.messages import Answer, Hello, Opened, Refused, Resized, encode_frame, receive
from aphrodite.adapters.outbound.images.processing import ImageProcessing
from aphrodite.domain.errors import ImageError, ImageTooCostlyError

_NICENESS = 5  # text goes first: it is short
_BASE_CPU_S = 5
_CPU_S_PER_PIXEL = 0.2e-6  # some three times what the dearest formats take on a processor of 2020
_BASE_BYTES = 128 * 2**20
_BYTES_PER_PIXEL = 16  # what a WebP with transparency takes; others take half of it


def serve(channel: socket.socket, processing: ImageProcessing, max_pixels: int) -> None:
    """Work until the server closes the channel."""
    # Ctrl-C and a service manager's SIGTERM reach the whole group; it is the server who decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel.sendall(encode_frame(Hello(os.getpid())))
    while (data := receive(channel)) is not None:
        channel.sendall(encode_frame(_answer(channel, data, processing, max_pixels)))


def _answer(channel: socket.socket, data: bytes, processing: ImageProcessing, max_pixels: int) -> Answer:
    try:
        before = _data_bytes()
        width, height = webp.declared_size(data) or (0, 0)
        _limit(before, min(width * height, max_pixels))
        check_parts(data)
        image = open_header(data, max_pixels)
        num_pixels = image.width * image.height
        channel.sendall(encode_frame(Opened(num_pixels)))
        if receive(channel) is None:
            raise SystemExit
        _limit(before, num_pixels)
        if processing.target_edge is not None:
            _reduce(image, processing.target_edge)
        picture = to_rgb(image)
        del image  # some formats keep as much again as their picture takes
        return Resized.of(processing.resize(picture))
    except ImageError as error:
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


def _limit(data_bytes: int | None, num_pixels: int) -> None:
    """Bound the CPU time from here on, and the memory above what there was before."""
    cpu_s = time.process_time() + _BASE_CPU_S + num_pixels * _CPU_S_PER_PIXEL
    _set_limit(resource.RLIMIT_CPU, round(cpu_s))
    if data_bytes is not None:
        _set_limit(resource.RLIMIT_DATA, data_bytes + _BASE_BYTES + num_pixels * _BYTES_PER_PIXEL)


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _data_bytes() -> int | None:
    """What this process has of what RLIMIT_DATA bounds; None where there is no Linux to tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except OSError:
        return None

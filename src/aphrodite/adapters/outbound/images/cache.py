"""Decoded images, kept by content: a picture that comes again, under any URL, is not decoded again."""

import hashlib
import threading
from collections import OrderedDict

from PIL import Image

from aphrodite.adapters.outbound.images.decoding import MAX_IMAGE_PIXELS, open_image, to_rgb

_BYTES_PER_PIXEL = 3


class CachingImageDecoder:
    """The ImageDecoder port: files of strangers to RGB pictures, the last ones used kept up to `max_cache_bytes`.

    What it returns is shared between callers and must not be changed. Two threads that meet with a new picture both
    decode it; a pool has few threads, and one that waited for the other would be no faster.
    """

    def __init__(self, *, max_image_pixels: int = MAX_IMAGE_PIXELS, max_cache_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_image_pixels = max_image_pixels
        self._max_cache_bytes = max_cache_bytes
        self._lock = threading.Lock()
        self._images: OrderedDict[bytes, Image.Image] = OrderedDict()  # the least recently used first
        self._num_bytes = 0

    def decode(self, data: bytes) -> Image.Image:
        """The picture in the bytes of an image file, upright and RGB. Thread-safe; blocks, so call it on a pool.

        Raises NotAnImageError, ImageTooLargeError or ImageError.
        """
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = to_rgb(open_image(data, self._max_image_pixels))
        with self._lock:
            self._keep(key, image)
        return image

    def _keep(self, key: bytes, image: Image.Image) -> None:
        num_bytes = _num_bytes(image)
        if key in self._images or num_bytes > self._max_cache_bytes:
            return
        self._images[key] = image
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_cache_bytes:
            _, oldest = self._images.popitem(last=False)
            self._num_bytes -= _num_bytes(oldest)


def _num_bytes(image: Image.Image) -> int:
    return image.width * image.height * _BYTES_PER_PIXEL

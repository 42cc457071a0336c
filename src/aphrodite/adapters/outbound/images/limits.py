"""Limits on images, told in one way wherever they are met."""

from dataclasses import dataclass

from aphrodite.domain.errors import ImageTooLargeError


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Width times height, at most."""

    decoded: int  # of one picture, and of all that are decoded at once
    resized: int = 0  # of what the image processor makes of one by a request's settings

    def check_resized(self, num_pixels: int) -> None:
        """Raises ImageTooLargeError."""
        if num_pixels > self.resized:
            raise ImageTooLargeError(
                f"The image has {num_pixels} pixels by the request's mm_processor_kwargs; it may have {self.resized}, "
                "the limit that --max-resized-pixels sets."
            )


def check_num_bytes(num_bytes: int, max_bytes: int) -> None:
    """Raises ImageTooLargeError when `num_bytes` is above `max_bytes`."""
    if num_bytes > max_bytes:
        raise ImageTooLargeError(f"The image is larger than {max_bytes} bytes, the limit that --max-image-bytes sets.")

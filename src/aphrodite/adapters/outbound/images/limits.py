"""The limit on an image file's bytes, told in one way wherever it is met."""

from aphrodite.domain.errors import ImageTooLargeError


def check_num_bytes(num_bytes: int, max_bytes: int) -> None:
    """Raises ImageTooLargeError when `num_bytes` is above `max_bytes`."""
    if num_bytes > max_bytes:
        raise ImageTooLargeError(f"The image is larger than {max_bytes} bytes, the limit that --max-image-bytes sets.")

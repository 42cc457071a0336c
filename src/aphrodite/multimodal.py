"""What may accompany a prompt's text."""

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

__all__ = ["MultiModalDataDict"]


class MultiModalDataDict(TypedDict, total=False):
    """The pictures of one prompt: at most one, as a PIL image, a uint8 array [height, width, 3] or a path."""

    image: "Image | npt.NDArray[np.uint8] | str | PathLike[str] | list[Any]"

"""A C++ kernel by its name and number format."""

from collections.abc import Callable
from typing import Any

import torch

from aphrodite.backends.native.library import load_library

_SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def native_function(name: str, dtype: torch.dtype, *types: Any) -> Callable[..., None] | None:
    """The kernel of that name for numbers of that format; None where there is none."""
    library = load_library("kernels", "-fopenmp") if dtype in _SUFFIXES else None
    full_name = f"{name}_{_SUFFIXES.get(dtype)}"
    if library is None or not hasattr(library, full_name):
        return None
    function = library[full_name]  # an object of its own each time, which keeps its types
    function.argtypes, function.restype = types, None
    return function

"""Libraries told to forget what they made for shapes that they met long ago.

For every shape of a product oneDNN keeps a compiled kernel, and torch's layer over it what belongs to one. Prompts have
ever new numbers of tokens, so that the hundreds and thousands which both keep by themselves are hundreds of megabytes.
Read as torch loads, hence from `import aphrodite` on. What the user set in the environment stands.
"""

import os
import sys

SETTINGS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "16"}


def bound_shape_caches() -> None:
    """Put `SETTINGS` into the environment, unless torch has read it already."""
    if "torch" not in sys.modules:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)

"""Image processors for the processes that decode: one that costs nothing to load, and two that ask for too much."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from PIL import Image

from aphrodite.adapters.outbound.images import worker
from aphrodite.adapters.outbound.images.processing import ResizedImage


class Plain:
    target_edge = None

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        return self

    def resize(self, picture: Image.Image) -> ResizedImage:
        return ResizedImage(picture.width, picture.height, np.asarray(picture.resize((4, 4)))[None], b"hash")


class Endless(Plain):
    def __init__(self) -> None:
        worker._BASE_CPU_S = 1  # in its own process

    def resize(self, picture: Image.Image) -> ResizedImage:
        while True:
            pass


class Greedy(Plain):
    def resize(self, picture: Image.Image) -> ResizedImage:
        taken = []
        while True:
            taken.append(b"x" * 2**20)


def broken() -> Plain:
    raise ValueError("no such processor")

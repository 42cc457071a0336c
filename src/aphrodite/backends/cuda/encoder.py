"""Pictures to features: the vision tower, under CUDA graphs for a few pictures at once."""

import torch
from torch import Tensor

from aphrodite.backends.cuda.gpu.graphs import Capture, SizedGraphs
from aphrodite.backends.cuda.vision import VisionTower

_SIZES = (1, 2, 4, 8)  # with more pictures the device is slower than the host that starts its work


class Encoder:
    """Implements what `VisionTower.encode` does, sooner."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        self._tower = tower
        self.num_image_tokens = tower.spec.num_image_tokens
        image_size = tower.spec.image_size
        self._pixels = torch.zeros(_SIZES[-1], image_size, image_size, 3, dtype=torch.uint8, device=device)
        self._features: dict[int, Tensor] = {}  # by size
        self._graphs = SizedGraphs(_SIZES, self._run)

    def capture(self, capture: Capture, max_images: int) -> None:
        """Record every size, and see that there is memory for the most pictures of a step."""
        self._graphs.capture(capture, "Capturing the vision tower")
        self._tower.encode(self._pixels[:1].repeat(max_images, 1, 1, 1))

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 [N, size, size, 3] on the device to features [N, image tokens, E], which stay until a graph runs."""
        size = self._graphs.fit(len(pixels))
        if size is None:
            return self._tower.encode(pixels)
        self._pixels[: len(pixels)].copy_(pixels)
        self._graphs.run(size)
        return self._features[size][: len(pixels)]

    def _run(self, size: int) -> None:
        self._features[size] = self._tower.encode(self._pixels[:size])

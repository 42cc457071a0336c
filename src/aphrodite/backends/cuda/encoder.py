"""Images to rows of the feature array: the vision tower, under CUDA graphs for a few segments at once."""

import torch
from torch import Tensor

from aphrodite.backends.cuda.gpu.graphs import Capture, SizedGraphs
from aphrodite.backends.cuda.vision import VisionTower

_SIZES = (1, 2, 4, 8)  # with more segments the device is slower than the host that starts its work


class Encoder:
    """Implements what `VisionTower.encode` does, sooner."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        self._tower = tower
        self.num_image_tokens = tower.spec.num_image_tokens
        self._shape = (tower.spec.num_patches, tower.spec.patch_bytes)  # of a segment
        self._patches = torch.zeros(_SIZES[-1], *self._shape, dtype=torch.uint8, device=device)
        self._encoded: dict[int, Tensor] = {}  # by size
        self._graphs = SizedGraphs(_SIZES, self._run)

    def capture(self, capture: Capture, max_segments: int) -> None:
        """Record every size, and see that there is memory for the most segments of a step."""
        self._graphs.capture(capture, "Capturing the vision tower")
        self._tower.encode(self._patches[:1].expand(max_segments, -1, -1))

    def encode(self, patches: Tensor) -> Tensor:
        """Patches uint8 [P, patch bytes] on the device to rows [N * image tokens, E], and behind them learned vectors.

        They stay until a graph runs.
        """
        rows, learned = self._encode(patches.view(-1, *self._shape)).flatten(0, 1), self._tower.learned
        return rows if learned is None else torch.cat((rows, learned))

    def _encode(self, segments: Tensor) -> Tensor:
        size = self._graphs.fit(len(segments))
        if size is None:
            return self._tower.encode(segments)
        self._patches[: len(segments)].copy_(segments)
        self._graphs.run(size)
        return self._encoded[size][: len(segments)]

    def _run(self, size: int) -> None:
        self._encoded[size] = self._tower.encode(self._patches[:size])

"""Images to rows of the feature array: the vision tower, under CUDA graphs for a few segments of one size at once."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.gpu.graphs import Capture, SizedGraphs
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.domain.scheduling.encoding import EncoderInputs

_SIZES = (1, 2, 4, 8)  # with more segments the device is slower than the host that starts its work


class Encoder:
    """Implements what the tower does, sooner. The sizes of a packed tower are too many to record: it runs as it is."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        self.spec = tower.spec
        self._tower = tower
        self._shape = (tower.spec.num_patches, tower.spec.patch_bytes)  # of a segment
        self._patches = torch.empty(0, dtype=torch.uint8, device=device)
        self._encoded: dict[int, Tensor] = {}  # by size
        self._graphs = SizedGraphs(_SIZES, self._run)

    def capture(self, capture: Capture, max_units: int) -> None:
        """Record every size, and see that there is memory for the most segments, or patches, of a step."""
        if self.spec.is_packed:
            patches = torch.zeros(max_units, self.spec.patch_bytes, dtype=torch.uint8, device=self._patches.device)
            coordinates = torch.zeros(max_units, 2, dtype=torch.int32, device=self._patches.device)
            whole = np.array([max_units], np.int32)
            positions = None
            if self.spec.position_square is not None:
                taps = torch.zeros(
                    max_units, self.spec.position_square.taps_per_position, dtype=torch.int32, device=patches.device
                )
                positions = taps, taps.float()
            self._tower.encode_packed(patches, coordinates, whole, whole, positions)
            return
        self._patches = torch.zeros(_SIZES[-1], *self._shape, dtype=torch.uint8, device=self._patches.device)
        self._graphs.capture(capture, "Capturing the vision tower")
        self._tower.encode(self._patches[:1].expand(max_units, -1, -1))

    @staticmethod
    def numbers(inputs: EncoderInputs) -> list[np.ndarray]:
        """What `encode` needs on the device, in the order in which it takes it."""
        sums = (inputs.position_taps, inputs.position_weights, inputs.weights)
        return [inputs.patches, inputs.coordinates, inputs.taps, *(array for array in sums if array is not None)]

    def encode(self, inputs: EncoderInputs, sent: Iterator[Tensor]) -> Tensor:
        """The features [F, E] of images, with what was sent for them."""
        patches, coordinates, taps = next(sent), next(sent), next(sent)
        if self.spec.is_packed:
            positions = None if inputs.position_taps is None else (next(sent), next(sent))
            rows = self._tower.encode_packed(patches, coordinates, inputs.segments, inputs.windows, positions)
        else:
            rows = self.encode_segments(patches.view(-1, *self._shape)).flatten(0, 1)
        learned = self._tower.learned
        if learned is not None:
            rows = torch.cat((rows, learned))
        if inputs.weights is None:
            return rows[taps.long()]
        weights, features = next(sent), torch.zeros(len(taps), rows.shape[1], device=rows.device)
        for tapped, weight in zip(taps.long().unbind(1), weights.unbind(1), strict=True):
            features.addcmul_(rows[tapped].float(), weight[:, None])
        return features.to(rows.dtype)

    def encode_segments(self, segments: Tensor) -> Tensor:
        """Patches uint8 [N, patches, patch bytes] to rows [N, image tokens, E], which stay until a graph runs."""
        size = self._graphs.fit(len(segments))
        if size is None:
            return self._tower.encode(segments)
        self._patches[: len(segments)].copy_(segments)
        self._graphs.run(size)
        return self._encoded[size][: len(segments)]

    def _run(self, size: int) -> None:
        self._encoded[size] = self._tower.encode(self._patches[:size])

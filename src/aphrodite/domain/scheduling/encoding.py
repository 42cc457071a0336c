"""The images of a step -> numpy arrays, used by every backend.

Letters: P patches, F features, S segments, W windows, all of all images together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.scheduling.step import ImageToEncode


class EncoderInputs(NamedTuple):
    """What an encoder reads, and where its features go."""

    patches: np.ndarray  # uint8 [P, patch bytes]
    taps: np.ndarray  # int32 [F], or [F, K] with weights: the row that each feature takes among those that the
    # projector makes of all segments, and behind them the learned vectors; these are counted from the end, below 0
    weights: np.ndarray | None  # float32 [F, K], for a tower whose features are sums
    rows: np.ndarray  # int32 [F] of the feature array
    coordinates: np.ndarray  # int32 [P, 2], or [0, 2] for a tower that needs none
    segments: np.ndarray  # int32 [S] patches of each
    windows: np.ndarray  # int32 [W] patches of each; the segments again for a tower that has none
    position_taps: np.ndarray | None  # int32 [P, K], for a tower that interpolates learned positions
    position_weights: np.ndarray | None  # float32 [P, K]


def encoder_inputs(images: Sequence[ImageToEncode], vision: VisionSpec) -> EncoderInputs:
    """For images that are encoded together."""
    plans = [encoded.image.plan for encoded in images]
    taps, first = [], 0
    for plan in plans:
        taps.append(np.where(plan.taps < 0, plan.taps, plan.taps + first))
        first += num_projected(vision, plan.num_segments, plan.num_patches)
    none = np.empty((0, 2), np.int32)
    return EncoderInputs(
        np.concatenate([encoded.image.patches for encoded in images]),
        np.concatenate(taps),
        _joined([plan.tap_weights for plan in plans]),
        np.concatenate([encoded.rows for encoded in images]),
        np.concatenate([none if plan.coordinates is None else plan.coordinates for plan in plans]),
        np.concatenate([plan.segments for plan in plans]),
        np.concatenate([plan.segments if plan.windows is None else plan.windows for plan in plans]),
        _joined([plan.position_taps for plan in plans]),
        _joined([plan.position_weights for plan in plans]),
    )


def _joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Of all images, or None: a model's images have them all, or none has."""
    found = [array for array in arrays if array is not None]
    return np.concatenate(found) if found else None


def num_projected(vision: VisionSpec, num_segments: int, num_patches: int) -> int:
    """Rows that the projector makes."""
    if vision.is_packed:
        return num_patches // vision.merge_side**2
    return num_segments * vision.num_image_tokens


def key_ranges(lengths: np.ndarray, size: int) -> np.ndarray:
    """The patches that each of `size` patches sees, first and behind the last, int32 [size, 2]; the padding sees none.

    `lengths` are those of segments or windows, one behind the other.
    """
    stops = np.cumsum(lengths)
    ranges = np.full((size, 2), stops[-1], np.int32)
    ranges[: stops[-1], 0] = np.repeat(stops - lengths, lengths)
    ranges[: stops[-1], 1] = np.repeat(stops, lengths)
    return ranges

"""New images as the encoder's program reads them: padded arrays, as many images together as there is a program for.

Letters: N segments of images, P patches, F features. A unit is a segment, or a patch of a packed tower.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aphrodite.backends.jax_tpu.buckets import fit
from aphrodite.backends.jax_tpu.vision import Places
from aphrodite.domain.architectures.images.image import PatchPlan
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.scheduling.encoding import EncoderInputs, encoder_inputs, key_ranges
from aphrodite.domain.scheduling.step import ImageToEncode


class EncoderArrays(NamedTuple):
    """On the host or on the devices."""

    patches: Any  # uint8 [N, patches, patch bytes], of a packed tower [1, P, patch bytes]
    places: Places | None  # of a packed tower
    taps: Any  # int32 [F], or [F, K] with weights
    weights: Any | None  # float32 [F, K]
    rows: Any  # int32 [F]


class Batch(NamedTuple):
    """Images that are encoded together."""

    num_units: int  # that there is a program for
    arrays: EncoderArrays


def batches(
    images: Sequence[ImageToEncode], vision: VisionSpec, sizes: tuple[int, ...], padding_row: int
) -> Iterator[Batch]:
    """The images of a step, by numbers of units in `sizes`; what pads goes to `padding_row` of the feature array."""
    waiting, num_units = list[ImageToEncode](), 0
    for image in images:
        units = _units(image.image.plan, vision)
        if waiting and num_units + units > sizes[-1]:
            yield _padded(encoder_inputs(waiting, vision), vision, fit(sizes, num_units), padding_row)
            waiting, num_units = [], 0
        waiting.append(image)
        num_units += units
    if waiting:
        yield _padded(encoder_inputs(waiting, vision), vision, fit(sizes, num_units), padding_row)


def patches_shape(vision: VisionSpec, num_units: int) -> tuple[int, int, int]:
    """Of a program's patches."""
    if vision.is_packed:
        return 1, num_units, vision.patch_bytes
    return num_units, vision.num_patches, vision.patch_bytes


def taps_shape(vision: VisionSpec, num_units: int) -> tuple[int, ...]:
    """Of a program's taps."""
    num_features, per_feature = vision.max_features(num_units), vision.taps_per_feature
    return (num_features,) if per_feature == 1 else (num_features, per_feature)


def _units(plan: PatchPlan, vision: VisionSpec) -> int:
    return plan.num_patches if vision.is_packed else plan.num_segments


def _padded(given: EncoderInputs, vision: VisionSpec, num_units: int, padding_row: int) -> Batch:
    patches = np.zeros(patches_shape(vision, num_units), np.uint8)
    patches.reshape(-1, vision.patch_bytes)[: len(given.patches)] = given.patches
    places = None
    if vision.is_packed:
        places = Places(
            _longer(given.coordinates, num_units),
            key_ranges(given.segments, num_units),
            key_ranges(given.windows, num_units),
            None if given.position_taps is None else _longer(given.position_taps, num_units),
            None if given.position_weights is None else _longer(given.position_weights, num_units),
        )
    num_features, *_ = taps_shape(vision, num_units)
    rows = np.full(num_features, padding_row, np.int32)
    rows[: len(given.rows)] = given.rows
    weights = None if given.weights is None else _longer(given.weights, num_features)
    return Batch(num_units, EncoderArrays(patches, places, _longer(given.taps, num_features), weights, rows))


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    """With zeros behind it."""
    padded = np.zeros((size, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded

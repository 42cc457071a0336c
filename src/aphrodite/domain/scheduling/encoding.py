"""The images of a step -> numpy arrays, used by every backend.

Letters: P patches, F features, both of all images together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aphrodite.domain.scheduling.step import ImageToEncode


class EncoderInputs(NamedTuple):
    """What an encoder reads, and where its features go."""

    patches: np.ndarray  # uint8 [P, patch bytes]
    taps: np.ndarray  # int32 [F] the row that each feature takes among those that the projector makes of all segments
    rows: np.ndarray  # int32 [F] of the feature array


def encoder_inputs(images: Sequence[ImageToEncode], rows_per_segment: int) -> EncoderInputs:
    """For images whose segments all give the same number of rows."""
    firsts = np.cumsum([0, *(encoded.image.plan.num_segments for encoded in images)]) * rows_per_segment
    return EncoderInputs(
        np.concatenate([encoded.image.patches for encoded in images]),
        np.concatenate(
            [encoded.image.plan.taps + first for encoded, first in zip(images, firsts[:-1].tolist(), strict=True)]
        ),
        np.concatenate([encoded.rows for encoded in images]),
    )

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
    taps: np.ndarray  # int32 [F] the row that each feature takes among those that the projector makes of all segments,
    # and behind them the learned vectors; these are counted from the end, below 0
    rows: np.ndarray  # int32 [F] of the feature array


def encoder_inputs(images: Sequence[ImageToEncode], rows_per_segment: int) -> EncoderInputs:
    """For images whose segments all give the same number of rows."""
    taps, first = [], 0
    for encoded in images:
        plan = encoded.image.plan
        taps.append(np.where(plan.taps < 0, plan.taps, plan.taps + first))
        first += plan.num_segments * rows_per_segment
    return EncoderInputs(
        np.concatenate([encoded.image.patches for encoded in images]),
        np.concatenate(taps),
        np.concatenate([encoded.rows for encoded in images]),
    )

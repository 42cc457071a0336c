"""Where tokens stand for the rotary embedding, in time, rows and columns (M-RoPE, arXiv 2409.12191).

A token of text stands at one position, three times. The features of an image with a grid stand at one time, and their
rows and columns count from there; what follows comes after the last row and the last column.
"""

from collections.abc import Sequence

import numpy as np

from aphrodite.domain.architectures.images.image import ImageSpan


def rope_positions(num_tokens: int, images: Sequence[ImageSpan]) -> tuple[np.ndarray | None, int]:
    """Of a prompt's tokens, int32 [3, num_tokens], and what to add to a later token's place.

    None, and 0, where positions are places: no image has a grid.
    """
    if all(span.grid is None for span in images):
        return None, 0
    positions = np.tile(np.arange(num_tokens, dtype=np.int32), (3, 1))
    offset = 0
    for span in images:
        if span.grid is None:
            continue
        rows, columns = span.grid
        first, stop = span.start + int(span.is_feature.argmax()), span.start + int(span.is_feature.nonzero()[0][-1]) + 1
        positions[:, first:stop] = first + offset
        positions[1, first:stop] += np.repeat(np.arange(rows, dtype=np.int32), columns)
        positions[2, first:stop] += np.tile(np.arange(columns, dtype=np.int32), rows)
        offset += max(rows, columns) - (stop - first)
        positions[:, stop:] = np.arange(stop, num_tokens) + offset
    return positions, offset

"""Weights on their way to a device, told to whoever waits for them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter

import numpy as np
from tqdm import tqdm

from aphrodite.domain.architectures.weight import Weight

_log = logging.getLogger(__name__)

Assembled = tuple[Weight, list[np.ndarray]]


def shown(assembled: Iterable[Assembled], declared: Sequence[Weight]) -> Iterator[Assembled]:
    """The same weights, with a progress bar in numbers read on a terminal, and a line in the log at the end."""
    total, started_s = sum(weight.size for weight in declared), perf_counter()
    with tqdm(total=total, desc="Weights", unit="", unit_scale=True, disable=None, dynamic_ncols=True) as bar:
        for weight, parts in assembled:
            yield weight, parts
            bar.update(weight.size)
    _log.info("Read %.3g million weights in %.1f s.", total / 1e6, perf_counter() - started_s)

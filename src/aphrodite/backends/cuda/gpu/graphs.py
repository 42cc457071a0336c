"""CUDA graphs: what the device does for an input of a fixed size, recorded once and started by one call.

A recording holds addresses and grids. What differs from call to call lies in memory that stays where it is.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from tqdm import tqdm

Function = Callable[[], None]
"""Reads and writes memory that stays where it is."""

Capture = Callable[[Function], Function]
"""Makes of a function one that does the same again, faster."""


class SizedGraphs:
    """A function of a size, recorded for several sizes; an input is padded to the next of them."""

    def __init__(self, sizes: Sequence[int], function: Callable[[int], None]) -> None:
        """`sizes` ascend."""
        self._sizes = sizes
        self._function = function
        self._recorded: dict[int, Function] = {}

    def capture(self, capture: Capture, name: str) -> None:
        """Record every size, the largest first: what it needs in between then has room for the smaller ones."""
        bar = tqdm(self._sizes[::-1], desc=name, unit="graph", disable=None, dynamic_ncols=True)
        for size in bar:
            self._recorded[size] = capture(partial(self._function, size))

    def fit(self, size: int) -> int | None:
        """The smallest size on record that holds this one; None where there is none."""
        return next((candidate for candidate in self._sizes if candidate >= size and candidate in self._recorded), None)

    def run(self, size: int) -> None:
        """What the function does for a size on record."""
        self._recorded[size]()


class CudaCapture:
    """A `Capture` for CUDA: all its graphs share one pool of memory, as no two run at once."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        # torch would take one stream for all: on the device where the process first captured, and a graph that is freed
        # takes along the cuBLAS workspace of all that were captured on its stream (pytorch issue 193402).
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, function: Function) -> Function:
        function()  # kernels are compiled and libraries loaded before the recording, which allows neither
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            function()
        return graph.replay

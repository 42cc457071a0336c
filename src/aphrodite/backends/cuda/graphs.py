"""CUDA graphs: what the device does for an input of a fixed size, recorded once and started by one call.

A recording holds addresses and grids. What differs from call to call lies in memory that stays where it is.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

Function = Callable[[], Tensor]
"""Reads and writes memory that stays where it is, its result among it."""

Capture = Callable[[Function], Function]
"""Makes of a function one that does the same again, faster."""


class SizedGraphs:
    """A function of a size, recorded for several sizes; an input is padded to the next of them."""

    def __init__(self, sizes: Sequence[int], function: Callable[[int], Tensor]) -> None:
        """`sizes` ascend. The result of `function` for one size may lie over that for another."""
        self._sizes = sizes
        self._function = function
        self._recorded: dict[int, Function] = {}

    def capture(self, capture: Capture, name: str) -> None:
        """Record every size, the largest first: the smaller ones then fit into the memory of its results in between."""
        bar = tqdm(self._sizes[::-1], desc=name, unit="graph", disable=None, dynamic_ncols=True)
        for size in bar:
            self._recorded[size] = capture(partial(self._function, size))

    def fit(self, size: int) -> int | None:
        """The smallest size on record that holds this one; None where there is none."""
        return next((candidate for candidate in self._sizes if candidate >= size and candidate in self._recorded), None)

    def run(self, size: int) -> Tensor:
        """The function's result for a size on record; it stays until the next call."""
        return self._recorded[size]()


class CudaCapture:
    """A `Capture` for CUDA: all its graphs share one pool of memory, as no two run at once."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Function) -> Function:
        function()  # kernels are compiled and libraries loaded before the recording, which allows neither
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

"""How many threads torch runs on a CPU, and how they wait."""

import logging
import os

import torch

from aphrodite import cpus

_log = logging.getLogger(__name__)


def share_cpus() -> None:
    """Keep torch to the CPUs that this process may use, unless the user says how many threads there are to be."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cpus.num_cpus()))
    if not cpus.is_wait_bounded():
        _log.warning(
            "torch was loaded before aphrodite: beside busy processes its threads lose time waiting for each other; "
            "import aphrodite first, or set OMP_WAIT_POLICY=passive."
        )

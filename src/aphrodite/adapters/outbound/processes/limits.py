"""What a process may still take; the kernel holds it to that.

At the limit of CPU time the process ends, at the limit of memory an allocation fails.
"""

import ctypes
import resource
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent() -> None:
    """Be killed when the parent ends, whatever this process does then; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_cpu(seconds: float) -> None:
    """Bound the CPU time from here on."""
    _set_limit(resource.RLIMIT_CPU, round(time.process_time() + seconds))


def limit_data(num_bytes: int) -> None:
    """Bound what `data_bytes` counts."""
    _set_limit(resource.RLIMIT_DATA, num_bytes)


def data_bytes() -> int | None:
    """The memory of this process that `limit_data` bounds; None where there is no Linux to tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except OSError:
        return None


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))

"""File descriptors: each connection takes one, and the operating system gives a process so many."""

import os
import resource
import sys

_RESERVED = 16  # for the engine's next start, pictures that are fetched, files


def num_free_descriptors() -> int:
    """How many this process may still open, after it took all that the system's administrator lets it have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    num_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 64
    return max(limit - num_open - _RESERVED, 2)

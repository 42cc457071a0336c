"""How many CPUs this process may use, and libraries told to share them with others.

OpenMP's threads wait for each other in a loop of 3 ms and more before they sleep: beside busy processes they burn what
time they get in waiting for one that was put aside. The loop's length is read as torch loads, hence from `import
aphrodite` on. What the user set in the environment stands.
"""

import os
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

_SPINS = 10_000  # some 0.4 ms: longer than most gaps within a step, shorter than a scheduler's slice


def num_cpus() -> int:
    """As many as the affinity of this process and the quotas of its control groups allow; at least 1."""
    return max(1, int(min(_affinity(), quota())))


def share_cpus() -> None:
    """Put `settings` into the environment, unless torch has read it already."""
    if "torch" not in sys.modules:
        for name, value in settings().items():
            os.environ.setdefault(name, value)


def settings() -> dict[str, str]:
    """What libgomp and XLA read as they are loaded; they know the affinity, and nothing of quotas."""
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": str(_SPINS)}
    num = str(num_cpus())
    return waiting if num_cpus() == _affinity() else waiting | {"OMP_NUM_THREADS": num, "NPROC": num}


def is_wait_bounded() -> bool:
    """Whether OpenMP was told how long its threads are to spin."""
    return "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ


def quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPUs that the control groups of this process, of either version, grant it; inf where none limits it."""
    return min((_granted(folder) for folder in _folders(groups, root)), default=inf)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folders(groups: Path, root: Path) -> Iterator[Path]:
    """Of the groups that limit CPUs, and of those above them: within a container the path may be its host's."""
    for line in _read(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / controllers  # version 2 names none
        folder = mount / path.lstrip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _granted(folder: Path) -> float:
    allowed, period = [*_read(folder / "cpu.max").split(), "", ""][:2]  # "150000 100000", or "max 100000"
    if not allowed:
        allowed, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    return int(allowed) / int(period) if allowed.isdecimal() and period.isdecimal() and int(period) else inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no Linux, or another version of control groups
        return ""

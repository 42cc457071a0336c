"""What a server's processes take together: memory and processor time."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if (fields := _stat(int(folder.name))) is not None:
            parents[int(folder.name)] = int(fields[1])
    return [pid for pid in parents if _descends(pid, root, parents)]


def tree_bytes(root: int) -> int:
    """Memory that no file backs, of all processes together."""
    return sum(bytes_of(pid) for pid in tree(root))


def bytes_of(pid: int) -> int:
    """Memory of one process that no file backs."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0
    return sum(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def tree_cpu_s(root: int) -> dict[int, float]:
    """Processor seconds so far of each process."""
    times_s = {}
    for pid in tree(root):
        if (fields := _stat(pid)) is not None:
            times_s[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return times_s


def machine_cpu_s() -> float:
    """Processor seconds so far of everything on this machine."""
    user, nice, system, _, _, *more = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, *more[:3]))) / _TICKS_PER_S


def _stat(pid: int) -> list[str] | None:
    """The fields behind the name, the state first; None for a process that has just ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (0, root):
        pid = parents.get(pid, 0)
    return pid == root

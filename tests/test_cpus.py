import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from aphrodite import cpus


def groups(tmp_path: Path, lines: str, files: dict[str, str]) -> float:
    """The quota where /proc/self/cgroup holds `lines` and /sys/fs/cgroup these files."""
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "groups").write_text(lines)
    return cpus.quota(tmp_path / "groups", tmp_path / "root")


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, inf),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/pod/one\n", {"pod/one/cpu.max": "50000 100000\n", "pod/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/docker/of-the-host\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu,cpuacct:/a\n1:name=systemd:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n"}, inf),
        (
            "4:cpu,cpuacct:/a\n1:name=systemd:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, inf),
        ("1:cpuset:/\n", {"cpu.max": "100000 100000\n"}, inf),
        ("", {}, inf),
    ],
)
def test_the_narrowest_of_the_control_groups_counts(
    tmp_path: Path, lines: str, files: dict[str, str], expected: float
) -> None:
    assert groups(tmp_path, lines, files) == expected


def test_no_control_groups_grant_everything(tmp_path: Path) -> None:
    assert cpus.quota(tmp_path / "none", tmp_path / "nowhere") == inf


def python(code: str, **env: str) -> str:
    """What a fresh interpreter prints, in an environment that says nothing of threads but `env`."""
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "NPROC")
    own = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=own | env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_as_many_cpus_as_the_affinity_allows() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from aphrodite import cpus; "
    assert python(code + "print(cpus.num_cpus())") == "1"


_QUOTA_OF_ONE = "from aphrodite import cpus; cpus.quota = lambda: 1.5; cpus.share_cpus(); "


def test_torch_runs_as_many_threads_as_the_quota_allows() -> None:
    assert python(_QUOTA_OF_ONE + "import torch; print(torch.get_num_threads())") == "1"


def test_xla_runs_as_many_threads_as_the_quota_allows() -> None:
    code = (
        "import jax, pathlib; jax.numpy.ones(8).sum().block_until_ready(); "
        "print(sum('XLAEigen' in path.read_text() for path in pathlib.Path('/proc/self/task').glob('*/comm')))"
    )
    assert python(_QUOTA_OF_ONE + code) == "1"


# Work that two threads share, a pause after each: the CPU time of all threads but the one that calls.
_HELPERS_CPU_SECONDS = """
import time, torch
numbers = torch.zeros(1 << 20)
numbers.add_(1)
before = time.process_time() - time.thread_time()
for _ in range(20):
    numbers.add_(1)
    time.sleep(0.03)
print(time.process_time() - time.thread_time() - before)
"""


def test_threads_without_work_soon_sleep() -> None:
    """A helper's own work here is some 0.2 ms; libgomp left alone spins for 3 ms and more after it."""
    spinning = float(python("import aphrodite" + _HELPERS_CPU_SECONDS, OMP_NUM_THREADS="2", GOMP_SPINCOUNT="300000"))
    bounded = float(python("import aphrodite" + _HELPERS_CPU_SECONDS, OMP_NUM_THREADS="2"))
    assert bounded < spinning / 4


def test_how_the_user_lets_threads_wait_stands() -> None:
    code = "import os, aphrodite; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert python(code, OMP_WAIT_POLICY="active") == "None"
    assert python(code, GOMP_SPINCOUNT="7") == "7"
    assert python(code) == "10000"

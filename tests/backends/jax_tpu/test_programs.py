"""What is compiled is kept between starts: in a folder of bounded size that several processes may use at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json
import jax
import numpy as np
from aphrodite.backends.jax_tpu.programs import Program, Programs, keep_compiled_programs

found = {"cache_hits": 0, "cache_misses": 0}


def note(event, **_):
    name = event.rpartition("/")[2]
    if name in found:
        found[name] += 1


jax.monitoring.register_event_listener(note)
keep_compiled_programs()
programs = Programs("highest", "cpu")
programs.compile(
    [Program(("power", n), lambda x, n=n: x**n, (jax.ShapeDtypeStruct((3,), np.float32),)) for n in range(2, 22)]
)
for n in range(2, 22):
    np.testing.assert_allclose(programs.run("power", n, np.full(3, 1.5, np.float32)), 1.5**n, rtol=1e-6)
print(json.dumps(found))
"""


def start(home: Path, **environment: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=inherited | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home)} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def counts(process: "subprocess.Popen[str]") -> dict[str, int]:
    with process:
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found: dict[str, int] = json.loads(printed)
    return found


def kept(home: Path) -> dict[str, int]:
    """Sizes of the programs in the folder."""
    return {file.name: file.stat().st_size for file in (home / "aphrodite" / "xla").glob("*-cache")}


def test_two_processes_fill_one_folder_and_a_third_compiles_nothing(tmp_path: Path) -> None:
    for found in [counts(process) for process in (start(tmp_path), start(tmp_path))]:
        assert found["cache_hits"] + found["cache_misses"] == 20
    assert counts(start(tmp_path)) == {"cache_hits": 20, "cache_misses": 0}
    assert len(kept(tmp_path)) == 20


def test_the_folder_does_not_grow_beyond_its_limit(tmp_path: Path) -> None:
    limit = 20_000  # bytes; the twenty take more than twice that
    assert counts(start(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE=str(limit))) == {"cache_hits": 0, "cache_misses": 20}
    sizes = kept(tmp_path).values()
    assert limit - 2 * max(sizes) < sum(sizes) <= limit

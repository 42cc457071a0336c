"""Every kernel through Triton's compiler and ptxas, for GPUs that need not be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[3] / "tools" / "triton_table.py"


@pytest.mark.parametrize(
    "target", [pytest.param("80", marks=pytest.mark.slow), "90", pytest.param("100", marks=pytest.mark.slow)]
)
def test_kernels_compile_without_spills_and_load_widely(target: str, pytestconfig: pytest.Config) -> None:
    assert pytestconfig.cache is not None
    # Kernels that are interpreted here cannot be compiled: that takes a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(pytestconfig.cache.mkdir("triton"))}
    command = [sys.executable, str(TABLE), "--targets", target, "--models", "LLaVA-1.5-7B", "Mistral-7B"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines()[2:]]
    assert {row[0] for row in rows} == {
        "add_rms_norm",
        "attend_chunks",
        "attend_group",
        "attend_single_head",
        "gated_activation",
        "merge_splits",
        "quick_gelu",
        "rotate_and_cache",
        "sample_tokens",
    }
    # A thread moves 16 bytes at once, as all that is not a step's field is aligned to that; of a rotation it has but 8.
    assert all(row[8] == ("8" if row[0] == "rotate_and_cache" else "16") for row in rows), rows
    # Attention loads while it computes: keys and values of the next tile, at least.
    assert all(int(row[9]) >= 2 for row in rows if row[0].startswith("attend")), rows


def test_programs_do_not_depend_on_where_a_field_lies(pytestconfig: pytest.Config) -> None:
    """Else a step of new sizes would wait for the compiler."""
    assert pytestconfig.cache is not None
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(pytestconfig.cache.mkdir("triton"))}
    program = """if True:
        from triton_table import MODELS, cases, compiling
        for model in MODELS[0], MODELS[3]:
            with compiling(90) as compiled:
                for launches in zip(*(cases(model, offset).values() for offset in (0, 1, 2))):
                    for launch in launches:
                        launch()
                    assert len({kernel.hash for kernel in compiled}) == len(compiled) // 3, compiled
                    compiled.clear()
    """
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, cwd=TABLE.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr

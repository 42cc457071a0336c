"""Every kernel through Triton's compiler and ptxas, for GPUs that need not be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[3] / "tools" / "triton_table.py"


@pytest.mark.parametrize("target", ["80", "90", "100"])
def test_kernels_compile_without_spills(target: str, pytestconfig: pytest.Config) -> None:
    assert pytestconfig.cache is not None
    # Kernels that are interpreted here cannot be compiled: that takes a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(pytestconfig.cache.mkdir("triton"))}
    command = [sys.executable, str(TABLE), "--targets", target, "--models", "LLaVA-1.5-7B", "Mistral-7B"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    kernels = {line.split()[1] for line in result.stdout.splitlines()[2:]}
    assert kernels == {
        "add_rms_norm",
        "attend_chunks",
        "attend_group",
        "attend_single_head",
        "gated_activation",
        "merge_splits",
        "rotate_and_cache",
        "sample_tokens",
    }

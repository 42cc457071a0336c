"""`aphrodite bench serve` as a user runs it, beside LLM on the same prompts."""

import json
import subprocess
from pathlib import Path

from tests.e2e.conftest import MODEL
from tests.e2e.server_process import COMMAND, ServerProcess, environment


def test_the_server_is_measured_and_compared(server: ServerProcess, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    args = ["--url", server.url, "--requests", "8", "--concurrency", "4", "--image-size", "40x40"]
    args += ["--input-words", "8", "--output-tokens", "10", "--json", str(file), "--compare-offline", str(checkpoint)]
    done = subprocess.run(
        [COMMAND, "bench", "serve", *args], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    figures = found["figures"]
    assert found["settings"]["model"] == MODEL
    assert (figures["num_good"], figures["errors"]) == (8, {})
    assert figures["output_tokens"] == 80
    assert figures["input_tokens"] > 8 * 16  # the pictures' alone
    assert figures["offline_output_tokens_per_s"] > 0
    assert f"the server reaches {figures['offline_ratio']:.1%}" in done.stdout

"""`aphrodite bench growth` on tiny models: what is counted is known beforehand."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import compiled_programs

from aphrodite.adapters.inbound.cli.app import main

FOLDER = "aphrodite.bench.curves"


@pytest.fixture
def growth(
    tmp_path: Path,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Runs the command with few points a curve; returns its figures and what it printed."""
    compiled_programs.keep(pytestconfig)
    for constant, value in (
        ("batches.MOST_SEQUENCES", 8),
        ("driver._ENOUGH_S", 0.0),
        ("requests.COUNTS", (1, 5)),
        ("waiting.NUMS_RUNNING", (4, 8)),
        ("waiting.NUMS_WAITING", (0, 100)),
        ("waiting._NUM_STEPS", 5),
    ):
        monkeypatch.setattr(f"{FOLDER}.{constant}", value)

    def run(*args: str) -> tuple[dict[str, Any], str]:
        file, plot = tmp_path / "figures.json", tmp_path / "plot.png"
        words = ["aphrodite", "bench", "growth", *args, "--device", "cpu", "--dtype", "float32"]
        monkeypatch.setattr(sys, "argv", [*words, "--json", str(file), "--plot", str(plot)])
        with pytest.raises(SystemExit) as raised:
            main()
        assert not raised.value.code
        assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return json.loads(file.read_text())["figures"], capsys.readouterr().out

    return run


@pytest.mark.parametrize("backend", ["cuda", pytest.param("jax_tpu", marks=pytest.mark.slow)])
def test_what_is_shared_and_how_memory_grows(growth: Any, llava_folder: Path, backend: str) -> None:
    figures, printed = growth(str(llava_folder), "--backend", backend)
    assert figures["dtype"] == "float32"
    assert [point["num_sequences"] for point in figures["batches"]] == [1, 2, 4, 8]
    assert all(0 < point["host_ms"] < point["step_ms"] for point in figures["batches"])

    config = json.loads((llava_folder / "config.json").read_text())["text_config"]
    token_bytes = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 4
    assert [point["num_tokens"] for point in figures["contexts"]] == [64, 128, 256, 512 - 48]
    for point in figures["contexts"]:
        assert 0 <= point["kv_cache_bytes"] - point["num_tokens"] * token_bytes <= (32 + 16) * token_bytes
        assert 10 << 20 < point["resident_bytes"] < 1 << 40

    found = {(point["kind"], point["num_requests"]): point for point in figures["requests"]}
    assert {kind for kind, _ in found} == {"own text", "shared text", "own picture", "shared picture"}
    for kind, length in (("text", 128), ("picture", 16)):
        own, shared = found[f"own {kind}", 5], found[f"shared {kind}", 5]
        assert (own["prefix_cache_hits"], shared["prefix_cache_hits"]) == (0, 0.8)
        assert own["prompt_tokens_run"] == 5 * (length + 16)
        assert shared["prompt_tokens_run"] == length + 5 * 16
    assert found["own picture", 5]["encoder_cache_hits"] == 0
    assert found["shared picture", 5]["encoder_cache_hits"] == 0.8
    assert found["shared text", 5]["encoder_cache_hits"] is None

    waiting = [(point["num_running"], point["num_waiting"]) for point in figures["waiting"]]
    assert waiting == [(4, 0), (4, 100), (8, 0), (8, 100)]
    tables = [lines.splitlines() for lines in printed.split("\n\n")[1:]]
    assert [len(lines) - 2 for lines in tables] == [4, 4, 2, 2]
    assert {line.count("|") for line in tables[2]} == {4 + 2 + 1 + 2}


def test_a_model_without_eyes_is_asked_about_texts(growth: Any, text_folder: Path) -> None:
    figures, printed = growth(str(text_folder), "--load-format", "dummy")
    assert {point["kind"] for point in figures["requests"]} == {"own text", "shared text"}
    assert "picture" not in printed

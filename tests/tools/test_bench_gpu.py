"""`make bench-gpu` on a tiny model, on the CPU."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.builders import tiny_llava

import bench_gpu
from aphrodite import bootstrap
from aphrodite.bench.model_folder import with_tokenizer
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import StepError
from gpu_rows import Figure, Rows
from llava_7b import CONFIG, LLAVA_7B


def test_every_row_is_measured_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aphrodite.bench.device_rates._SECONDS_EACH", 0.01)
    folder = tmp_path / "tiny"
    folder.mkdir()
    tiny_llava(folder)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--config", str(folder), "--output", str(tmp_path)])
    bench_gpu.main()

    written = json.loads((tmp_path / "gpu-tiny.json").read_text())
    assert {"command", "date", "versions", "commit", "device", "figures"} <= set(written)
    rows = written["figures"]["rows"]
    assert [row["unit"] for row in rows] == [
        "TFLOP/s", "TFLOP/s", "images/s", "ms", "ms", "output tokens/s", "ms", "requests/s", "ms",
        "ms", "ms", "ms", "images/s",
    ]  # fmt: skip
    assert all(row["measured"] > 0 and row["bar"] is None for row in rows)
    lines = (tmp_path / "gpu-tiny.md").read_text().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[4:17]] == [row["what"] for row in rows]
    assert [row["what"] for row in rows if row["kernels"]] == [row["what"] for row in rows[:6]]
    assert sum(line.startswith("| kernel |") for line in lines) == 6
    assert "\n".join(lines) in capsys.readouterr().out


def test_a_row_that_fails_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Figure:
        raise StepError("no more")

    good = [Figure(what, "ms", 1.0, None, None, more_is_better=False) for what in ("before", "after")]
    monkeypatch.setattr(Rows, "measurements", lambda _: [lambda: good[0], fail, lambda: good[1]])
    monkeypatch.setattr("aphrodite.bench.device_rates._SECONDS_EACH", 0.01)
    folder = tmp_path / "tiny"
    folder.mkdir()
    tiny_llava(folder)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--config", str(folder), "--output", str(tmp_path)])
    with pytest.raises(RuntimeError, match=r"^1 rows could not be measured"):
        bench_gpu.main()
    written = json.loads((tmp_path / "gpu-tiny.json").read_text())
    assert [row["what"] for row in written["figures"]["rows"]] == ["before", "after"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    with pytest.raises(SystemExit, match=r"^There is no NVIDIA GPU here"):
        bench_gpu.main()


def test_the_configuration_is_that_of_the_shapes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "completed").mkdir()
    config = with_tokenizer(EngineConfig(model=str(tmp_path), load_format="dummy"), tmp_path / "completed")
    assert bootstrap.open_model(config).spec == LLAVA_7B

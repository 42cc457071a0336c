"""`aphrodite bench throughput` and `latency` on tiny models, beside transformers on the same prompts."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import transformers
from tests import compiled_programs

from aphrodite import LLM
from aphrodite.adapters.inbound.cli.app import main
from aphrodite.bench.peers.peer import Peer
from aphrodite.bench.phases import Phase, PhaseClock, phases_of_step
from aphrodite.bench.token_workload import TokenCounts, TokenWorkload

SMALL = ("--device", "cpu", "--max-num-seqs", "4")


@pytest.fixture(autouse=True)
def _quick_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is does not matter here; finding out takes seconds."""
    monkeypatch.setattr("aphrodite.bench.device_rates._SECONDS_EACH", 0.01)


def bench(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """The exit code of `aphrodite bench ARGS`."""
    monkeypatch.setattr(sys, "argv", ["aphrodite", "bench", *args])
    with pytest.raises(SystemExit) as raised:
        main()
    return int(raised.value.code or 0)


def figures_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())["figures"]
    return found


def test_the_demo_model_agrees_with_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "figures.json", tmp_path / "plot.png"
    lengths = ("--requests", "4", "--input-tokens", "3:9", "--output-tokens", "2:6", "--image-size", "50x40")
    others = ("--rounds", "2", "--dtype", "float32", "--compare", "transformers", "--json", str(file))
    assert (
        bench(monkeypatch, "throughput", *SMALL, "--max-num-seqs", "2", *lengths, *others, "--plot", str(picture)) == 0
    )

    written = json.loads(file.read_text())
    assert set(written) == {"command", "date", "versions", "commit", "device", "settings", "figures"}
    assert written["versions"]["transformers"] == transformers.__version__
    assert written["settings"]["input_tokens"] == "3:9"
    figures = written["figures"]
    [peer] = figures["peers"]
    assert (peer["name"], peer["dtype"]) == ("transformers", "float32")
    assert (peer["requests_that_agree"], peer["requests_compared"]) == (8, 8)
    assert peer["ratio"] == pytest.approx(figures["output_tokens_per_s"] / peer["output_tokens_per_s"], rel=2e-3)
    assert peer["versions"]["transformers"] == transformers.__version__

    asked = TokenWorkload(4, TokenCounts(3, 9), TokenCounts(2, 6), (50, 40), 0, 768, 3).prompts(1)
    assert figures["output_tokens"] == sum(prompt.num_output_tokens for prompt in asked)
    assert figures["prompt_tokens"] == sum(len(prompt.token_ids) + 63 for prompt in asked)  # 64 to a picture
    assert figures["output_tokens_per_s"] == pytest.approx(figures["output_tokens"] / median(figures["round_s"]), 1e-2)
    limit = figures["limit"]
    assert limit["dtype"] == "float32"
    assert limit["reached"] == pytest.approx(figures["output_tokens_per_s"] / limit["output_tokens_per_s"], rel=2e-2)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    said = capsys.readouterr()
    assert "tokens agree in 8 of 8 answers" in said.out


def test_a_configuration_alone_is_enough_for_dummy_weights(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = tmp_path / "model", tmp_path / "figures.json"
    model.mkdir()
    (model / "config.json").write_text((llava_folder / "config.json").read_text())
    args = (str(model), "--load-format", "dummy", "--image-size", "40x40", "--batch-size", "2", "--device", "cpu")
    lengths = ("--input-tokens", "4", "--output-tokens", "5", "--rounds", "1")
    compared = ("--compare", "transformers", "--compare-dtypes", "float32", "--json", str(file))
    assert bench(monkeypatch, "latency", *args, *lengths, *compared) == 0
    figures = figures_of(file)
    assert (figures["num_requests"], figures["output_tokens"]) == (2, 10)
    assert figures["prompt_tokens"] == 2 * (4 + 16)
    assert figures["peers"][0]["requests_that_agree"] == 2
    assert figures["limit"]["num_steps"] == 5
    assert figures["limit"]["num_decode_steps"] == 4


HOST_PARTS = {
    "preparing prompts", "the loop around them", "planning", "flattening", "launching", "committing", "detokenising",
    "elsewhere",
}  # fmt: skip
PROGRAMS = ("pictures", "decoder", "sampling")


@pytest.mark.parametrize(
    ("backend", "others"),
    [
        ("cuda", {"copying", "in the device: logits", *(f"in the device: {name}" for name in PROGRAMS)}),
        pytest.param("jax_tpu", {"in the device", *(f"queueing: {name}" for name in PROGRAMS)}, marks=pytest.mark.slow),
    ],
)
def test_a_profile_names_what_a_step_is_made_of(
    backend: str,
    others: set[str],
    pytestconfig: pytest.Config,
    llava_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compiled_programs.keep(pytestconfig)
    file, folder = tmp_path / "figures.json", tmp_path / "trace"
    args = (str(llava_folder), "--backend", backend, "--image-size", "40x40", "--max-num-batched-tokens", "64")
    lengths = ("--requests", "2", "--input-tokens", "3", "--output-tokens", "3", "--rounds", "1")
    assert bench(monkeypatch, "throughput", *SMALL, *args, *lengths, "--json", str(file), "--profile", str(folder)) == 0
    phases = figures_of(file)["phase_s"]
    assert set(phases) == HOST_PARTS | others
    assert all(seconds >= 0 for seconds in phases.values())
    assert "share of a step" in capsys.readouterr().out
    if backend == "cuda":
        events = json.loads((folder / "trace.json").read_text())["traceEvents"]
        assert {"planning", "flattening"} <= {event.get("name") for event in events}
    else:
        assert list(folder.rglob("*.xplane.pb"))


def test_a_part_of_a_step_that_is_not_there_is_an_error(text_folder: Path) -> None:
    clock = PhaseClock()
    with LLM(str(text_folder), device="cpu", kv_cache_memory=4 << 20) as llm:
        good, gone = phases_of_step(llm._engine)[0], Phase("gone", llm._engine, "no_such_part")
        with pytest.raises(AttributeError, match="no_such_part"), clock.around([good, gone]):
            pass
    assert good.attribute not in vars(good.owner), "the clocks that were put on came off again"


def test_another_backend_of_ours_gives_the_same_tokens(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "figures.json"
    args = (str(text_folder), "--requests", "2", "--input-tokens", "3", "--output-tokens", "4", "--rounds", "1")
    assert bench(monkeypatch, "throughput", *SMALL, *args, "--compare", "jax_tpu", "--json", str(file)) == 0
    [peer] = figures_of(file)["peers"]
    assert (peer["name"], peer["requests_that_agree"]) == ("jax_tpu", 2)


def test_a_peer_takes_the_processes_that_it_started_with_it(tmp_path: Path) -> None:
    script, number = tmp_path / "python", tmp_path / "number"
    script.write_text(
        f"#!/bin/sh\nsleep 1000 >/dev/null 2>&1 & echo $! > {number}\necho '{{\"versions\": {{}}}}'\ncat >/dev/null\n"
    )
    script.chmod(0o700)
    with Peer("vllm", "float32", script, {}):
        child = int(number.read_text())
        os.kill(child, 0)
    for _ in range(1000):  # the signal takes a moment
        if not _is_alive(child):
            break
        time.sleep(0.01)
    assert not _is_alive(child)


def _is_alive(process: int) -> bool:
    """Not ended; whoever adopted it may not have taken note of its end yet."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--input-tokens", "5:3"), "--input-tokens must be a number of tokens like 128, or a range"),
        (("--output-tokens", "0"), "--output-tokens must be"),
        (("--image-size", "big"), "--image-size must be like"),
        (("--json", "/no/such/folder/x.json"), "There is no folder"),
        (("--plot", "plot.pdf"), "--plot must end in .png"),
        (("--compare-dtypes", "float32"), "go with --compare"),
        (("--compare", "transformers", "--compare-dtypes", "int8"), "--compare-dtypes must be of float32"),
        (("--input-tokens", "2000"), "do not fit into a context of 1024"),
        (("--compare", "vllm"), "cannot import it; name an interpreter that can with --compare-python"),
        (("--compare", "vllm", "--compare-python", "/no/python"), "--compare-python cannot be run: /no/python"),
        (("--compare", "nothing"), "No backend 'nothing' is installed"),
    ],
)
def test_a_mistake_is_one_sentence(
    args: tuple[str, ...], part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "throughput", *SMALL, *args) == 2
    said = capsys.readouterr()
    [*_, last] = said.err.splitlines()
    assert part in last
    assert last.startswith("aphrodite: ")
    assert said.out == ""


def test_pictures_need_a_model_that_sees(
    text_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "latency", str(text_folder), "--image-size", "40x40", "--device", "cpu") == 2
    assert "reads text only" in capsys.readouterr().err


def test_prompts_repeat_with_their_seed_and_change_with_the_round() -> None:
    def workload(seed: int) -> TokenWorkload:
        return TokenWorkload(6, TokenCounts(4, 9), TokenCounts(1, 5), None, seed, vocab_size=12, image_token_id=5)

    first, again, later = workload(0).prompts(1), workload(0).prompts(1), workload(0).prompts(2)
    assert first == again
    assert [len(prompt.token_ids) for prompt in first] == [len(prompt.token_ids) for prompt in later]
    assert [prompt.num_output_tokens for prompt in first] == [prompt.num_output_tokens for prompt in later]
    assert first != later
    seen = {token for seed in range(20) for prompt in workload(seed).prompts(1) for token in prompt.token_ids}
    assert seen == set(range(12)) - {5}

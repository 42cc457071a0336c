"""Command lines and files as people bring them from vLLM."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.adapters.inbound.test_cli import parameters, write
from tests.e2e.server_process import COMMAND, environment

from aphrodite.adapters.inbound.cli.app import app
from aphrodite.adapters.inbound.cli.pasted_flags import notes_of
from aphrodite.adapters.inbound.cli.vllm_flags import BY_NAME, TABLE, OtherFlag
from aphrodite.domain.errors import ConfigError


def command() -> Any:
    group: Any = typer.main.get_command(app)
    return group.commands["run"]


def notes(*args: str) -> list[str]:
    """What `aphrodite run ARGS` would say in its log."""
    return notes_of(command().make_context("run", list(args)))


def line(flag: OtherFlag, name: str, value: str) -> list[str]:
    dashes = "-" if len(name) < 4 else "--"
    return [f"{dashes}{name}"] if flag.is_switch else [f"{dashes}{name}", value]


def test_the_table_names_each_flag_once_and_none_of_ours() -> None:
    names = [name for flag in TABLE for name in flag.names]
    assert len(names) == len(set(names)) == len(BY_NAME)
    ours = {name.lstrip("-") for param in command().params for name in (*param.opts, *param.secondary_opts)}
    assert not ours & set(names)
    assert {flag.ours for flag in TABLE if flag.ours} <= ours


@pytest.mark.parametrize("flag", [flag for flag in TABLE if not flag.ours], ids=lambda flag: flag.names[0])
def test_every_flag_does_what_the_table_says(flag: OtherFlag) -> None:
    for name in flag.names:
        if flag.is_ignored or flag.harmless:
            for value in flag.harmless or ("5",):
                [note] = notes("demo", *line(flag, name, value))
                assert note.startswith(f"--{flag.names[0]}")
                assert note.endswith(f"has no effect: {flag.reason}.")
        if not flag.is_ignored:
            with pytest.raises(ConfigError, match="cannot be used") as raised:
                parameters("demo", *line(flag, name, "what-nobody-takes"))
            assert flag.reason in str(raised.value)


def test_other_names_of_our_flags() -> None:
    found = parameters(
        *("--model", "demo", "-tp", "2", "-gmu=0.5", "--kv-cache-memory-bytes", "1G", "--no-enable-prefix-caching"),
        *("--api-keys", "sk-1", "--uvicorn-log-level", "trace", "--max_model_len=64", "--max_num_seqs", "3"),
        *("--allowed-origins", '["https://a", "https://b"]'),
    )
    assert (found["model"], found["tensor_parallel_size"], found["gpu_memory_utilization"]) == ("demo", 2, 0.5)
    assert (found["kv_cache_memory"], found["enable_prefix_caching"]) == (1 << 30, False)
    assert (found["api_key"], found["log_level"], found["max_model_len"]) == (["sk-1"], "debug", 64)
    assert found["max_num_seqs"] == 3
    assert found["cors_origins"] == ["https://a", "https://b"]


def test_several_values_behind_one_flag() -> None:
    found = parameters("demo", "--served-model-name", "a", "b", "c", "--port", "1")
    assert (found["model"], found["served_model_name"], found["port"]) == ("demo", ["a", "b", "c"], 1)
    found = parameters("--served-model-name", "a", "demo")
    assert (found["model"], found["served_model_name"]) == ("demo", ["a"])


@pytest.mark.parametrize("value", ["image=2,video=0", '{"image": 2, "audio": 0, "video": 0}'])
def test_no_other_kinds_than_images_may_be_said(value: str) -> None:
    assert parameters("demo", "--limit-mm-per-prompt", value)["limit_mm_per_prompt"]["image"] == 2


def test_forms_of_switches_and_of_json() -> None:
    assert len(notes("demo", "--enable-chunked-prefill=True", "--no-enable-chunked-prefill")) == 2
    assert len(notes("--enable-chunked-prefill", "False", "demo")) == 1
    assert len(notes("demo", "-O3", "--compilation-config", "{}", "--compilation-config.level", "3")) == 3
    assert len(notes("demo", "--no-enable-lora")) == 1
    with pytest.raises(ConfigError, match="--enable-lora cannot be used: merge"):
        parameters("demo", "--enable-lora")


def test_what_is_behind_two_dashes_and_what_is_unknown_stays() -> None:
    assert parameters("--port", "1", "--", "demo")["port"] == 1
    with pytest.raises(typer.TyperException, match="--swap-spice"):
        parameters("demo", "--swap-spice", "4")


def test_a_file_may_hold_them_too(tmp_path: Path) -> None:
    text = "model: demo\nkv-cache-memory-bytes: 1k\nno_enable_prefix_caching: true\nuvicorn-log-level: critical\n"
    file = write(tmp_path, text + "swap-space: 4\nenable-lora: false\nquantization:\nallowed-origins: ['*']\n")
    context = command().make_context("run", ["--config", file])
    found = context.params
    assert (found["kv_cache_memory"], found["enable_prefix_caching"], found["log_level"]) == (1000, False, "error")
    assert found["cors_origins"] == ["*"]
    assert len(notes_of(context)) == 2
    with pytest.raises(ConfigError, match="--quantization awq cannot be used: pass"):
        parameters("--config", write(tmp_path, "quantization: awq"))


def test_a_refusal_is_one_sentence_on_stderr() -> None:
    done = subprocess.run(
        [COMMAND, "run", "demo", "--pipeline-parallel-size", "2"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "aphrodite: --pipeline-parallel-size 2 cannot be used: use --tensor-parallel-size.\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_flags(shell: str) -> None:
    asked = {
        "_TYPER_COMPLETE_ARGS": "aphrodite run --ser",
        "COMP_WORDS": "aphrodite run --ser",
        "COMP_CWORD": "2",
        "_APHRODITE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([COMMAND], capture_output=True, text=True, env=environment(**asked), timeout=60, check=False)
    assert "--served-model-name" in done.stdout, done.stderr

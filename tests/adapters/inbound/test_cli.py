"""Flags, environment, file and defaults, in this order; and what the command line says of mistakes."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.e2e.server_process import COMMAND, environment

from aphrodite.adapters.inbound.cli.app import app, main
from aphrodite.domain.config import EngineConfig, ServerConfig
from aphrodite.domain.errors import ConfigError

ENGINE_FIELDS = set(EngineConfig.__dataclass_fields__)
SERVER_FIELDS = set(ServerConfig.__dataclass_fields__)


def parameters(*args: str) -> dict[str, Any]:
    """What `aphrodite run ARGS` would be called with."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands["run"].make_context("run", list(args)).params
    return found


def write(folder: Path, text: str) -> str:
    file = folder / "aphrodite.yaml"
    file.write_text(text)
    return str(file)


def test_there_is_a_flag_for_every_setting_with_its_default() -> None:
    found = parameters("demo")
    assert set(found) - {"config"} == ENGINE_FIELDS | SERVER_FIELDS
    for config, fields in ((EngineConfig(model="demo"), ENGINE_FIELDS), (ServerConfig(), SERVER_FIELDS)):
        for name in fields:
            expected = getattr(config, name)
            assert found[name] == expected or (expected in ((), None) and not found[name]), name
    assert found["port"] == 2242
    assert found["image_fetch_timeout"] == 10


@pytest.mark.parametrize(
    ("value", "limits"), [("image=4", {"image": 4}), ('{"image": 4}', {"image": 4}), (" image = 0", {"image": 0})]
)
def test_the_limit_of_images_is_read_in_both_forms(value: str, limits: dict[str, int]) -> None:
    assert parameters("demo", "--limit-mm-per-prompt", value)["limit_mm_per_prompt"] == limits


@pytest.mark.parametrize("value", ["4", "image", "image=many", "[1]", "{"])
def test_a_limit_of_images_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="--limit-mm-per-prompt must be image=N"):
        parameters("demo", "--limit-mm-per-prompt", value)


@pytest.mark.parametrize(
    "limits", [{}, {"video": 1}, {"image": 1, "video": 1}, {"image": -1}, {"image": True}, {"image": 1.0}, 4]
)
def test_limits_of_other_kinds_are_refused(limits: Any) -> None:
    with pytest.raises(ConfigError, match="limit_mm_per_prompt must be"):
        EngineConfig(model="demo", limit_mm_per_prompt=limits)


def test_settings_of_the_image_processor_are_json() -> None:
    found = parameters("demo", "--mm-processor-kwargs", '{"size": {"longest_edge": 9}}')
    assert found["mm_processor_kwargs"] == {"size": {"longest_edge": 9}}
    for value in ("size=9", "[1]", "{"):
        with pytest.raises(typer.BadParameter, match="--mm-processor-kwargs must be a JSON object"):
            parameters("demo", "--mm-processor-kwargs", value)
    with pytest.raises(ConfigError, match="mm_processor_kwargs must be a dictionary"):
        EngineConfig(model="demo", mm_processor_kwargs=[1])


def test_flag_before_environment_before_file_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "port: 1\nmax-queue: 2\nmax_num_seqs: 3\napi-key: [a, b]\nenable-prefix-caching: false\n")
    monkeypatch.setenv("APHRODITE_PORT", "11")
    monkeypatch.setenv("APHRODITE_MAX_QUEUE", "12")
    monkeypatch.setenv("APHRODITE_IMAGE_FETCH_TIMEOUT", "2.5")
    found = parameters("demo", "--config", file, "--port", "21")
    assert (found["port"], found["max_queue"], found["max_num_seqs"]) == (21, 12, 3)
    assert found["api_key"] == ["a", "b"]
    assert found["enable_prefix_caching"] is False
    assert found["image_fetch_timeout"] == 2.5
    monkeypatch.setenv("APHRODITE_API_KEY", "sk-environment")
    assert parameters("demo", "--config", file)["api_key"] == ["sk-environment"]
    assert parameters("demo", "--api-key", "x", "--api-key", "y")["api_key"] == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4096", 4096), ("1k", 1000), ("2G", 2 << 30), ("1e4", 10_000), ("1.5K", 1536), ("1_000", 1000), ("-1", -1)],
)
def test_numbers_as_people_write_them(text: str, expected: int, tmp_path: Path) -> None:
    assert parameters("demo", "--kv-cache-memory", text)["kv_cache_memory"] == expected
    file = write(tmp_path, f"kv-cache-memory: {text}")
    assert parameters("demo", "--config", file)["kv_cache_memory"] == expected


@pytest.mark.parametrize("text", ["1.5", "k", "1kk", "1e99999", "0x10", "", "1e-3", "½"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="takes a whole number"):
        parameters("demo", "--kv-cache-memory", text)


def test_serve_is_run() -> None:
    group: Any = typer.main.get_command(app)
    assert group.commands["serve"].make_context("serve", ["demo"]).params == parameters("demo")
    assert run("serve", "demo", "--port", "x").stderr == run("run", "demo", "--port", "x").stderr


def test_the_model_may_stand_in_the_file(tmp_path: Path) -> None:
    assert parameters("--config", write(tmp_path, "model: demo"))["model"] == "demo"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("prot: 1", "prot"),
        ("port: [1]", "port"),
        ("api-key: 3", "api-key"),
        ("port: {a: 1}", "port"),
        ("- port", "flags and their values"),
        ("port: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(typer.TyperException, match=part) as raised:
        parameters("demo", "--config", write(tmp_path, text))
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 70_000},
        {"api_key": ("",)},
        {"api_key": ("schlüssel",)},
        {"ssl_keyfile": "key.pem"},
        {"max_queue": 0},
        {"max_body_bytes": 0},
        {"image_max_redirects": -1},
        {"step_timeout": 1.0},
        {"max_logprobs": 21},
        {"root_path": "models"},
        {"root_path": "/models/"},
        {"request_timeout": 0.0},
        {"request_timeout": float("nan")},
        {"shutdown_timeout": -1.0},
        {"log_format": "xml"},
    ],
)
def test_server_config_names_the_flag(fields: dict[str, Any]) -> None:
    [name] = fields
    with pytest.raises(ConfigError, match="--" + name.replace("_", "-")):
        ServerConfig(**fields)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, env=environment(), timeout=60, check=False)


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("aphrodite ")
    shown = run("run", "--help").stdout
    for group in ("Model", "Engine", "Server", "Chat templates", "Images", "Logs"):
        assert f"─ {group} ─" in shown
    assert "--chat-template-content-format" in shown
    assert run().returncode == 0


def test_mistakes_outside_of_run() -> None:
    for args in (["frobnicate"], ["chat", "--image", "missing.png", "--url", "ftp://x"]):
        done = run(*args)
        assert done.returncode == 2
        assert done.stderr.startswith("aphrodite: ")
        assert done.stderr.count("\n") == 1
    nobody = run("chat", "demo", "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert "start one with: aphrodite run demo" in nobody.stderr
    nothing = run("run")
    assert (nothing.returncode, nothing.stderr) == (2, "aphrodite: MODEL is missing; see --help.\n")


def test_a_wrong_value_is_told_with_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*args: str) -> str:
        monkeypatch.setattr("sys.argv", ["aphrodite", "run", "demo", *args])
        with pytest.raises(SystemExit) as raised:
            main()
        assert raised.value.code == 2
        return capsys.readouterr().err

    assert said("--port", "many") == (
        "aphrodite: --port takes a whole number, as in 4096, 4k, 2G or 1e4; got 'many'.\n"
    )
    assert (
        said("--request-timeout", "long")
        == "aphrodite: --request-timeout takes a number, as in 0.9 or 30; got 'long'.\n"
    )
    assert said("--prot", "1").startswith("aphrodite: There is no flag --prot; did you mean ")
    assert said("--port") == "aphrodite: --port needs a value.\n"
    assert said("twice") == "aphrodite: Nothing is expected here: twice.\n"
    assert said("--load-format", "none") == "aphrodite: --load-format must be one of auto, dummy; got 'none'.\n"
    assert said("--block-size", "3") == "aphrodite: block_size must be a power of two of at most 1024 tokens, got 3.\n"
    assert "in the file of --config: max_queue" in said("--config", write(tmp_path, "max-queue: many"))
    assert said("--dtype", "fp7").endswith("--dtype must be one of auto, float32, bfloat16, float16, got 'fp7'.\n")
    monkeypatch.setenv("APHRODITE_PORT", "many")
    assert "in the environment: APHRODITE_PORT" in said()

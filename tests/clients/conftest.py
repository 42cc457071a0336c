"""Real clients, in an environment of their own, against a real server of the demo model; prints who can do what.

A file a client; its functions are named after what they try: test_text, test_image, test_stream, test_structured,
test_tools, test_too_long. `make test-clients` runs them.
"""

import base64
import io
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.table import table
from tests.e2e import server_process

from drawings import draw

KEY = "sk-aphrodite"
NAME_OF_SEEING = "gpt-4o"  # another name of the model: guidance sends images only to those that begin so
_SEED = 2_000_000_011  # of the drawing that `make demo` asks about
_SIGNS = {"passed": "yes", "failed": "NO"}
_results: dict[str, dict[str, str]] = defaultdict(dict)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of the demo model listens, which wants KEY; its own environment has no clients."""
    server_process.COMMAND = os.environ["SERVER_COMMAND"]
    log: Path = tmp_path_factory.mktemp("server") / "log"
    names = ("--served-model-name", "demo", "--served-model-name", NAME_OF_SEEING)
    with server_process.running(log, "demo", *server_process.SMALL, "--api-key", KEY, *names) as server:
        yield server.url


@pytest.fixture(scope="session")
def caller_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of a model listens that calls `weather` of its own accord; it wants KEY."""
    server_process.COMMAND = os.environ["SERVER_COMMAND"]
    folder = tmp_path_factory.mktemp("caller")
    python = Path(server_process.COMMAND).with_name("python")
    subprocess.run([python, "-m", "tests.clients.caller", str(folder)], check=True)
    names = ("--served-model-name", "demo", "--api-key", KEY)
    with server_process.running(folder / "log", str(folder), *server_process.SMALL, *names) as server:
        yield server.url


@pytest.fixture(scope="session")
def picture() -> str:
    """A PNG in base64 of which the model says "Two red triangles."."""
    buffer = io.BytesIO()
    draw(_SEED).image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def picture_url(picture: str) -> str:
    """The same as a URL."""
    return f"data:image/png;base64,{picture}"


@pytest.fixture(autouse=True)
def _openai_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients look for that are told nothing else."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
    monkeypatch.setenv("OPENAI_API_BASE", f"{url}/v1")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        path, _, name = report.nodeid.partition("::")
        client = Path(path).stem.removeprefix("test_").replace("_", "-")
        feature = name.removeprefix("test_").partition("[")[0]
        if client == feature == "node":
            client, _, feature = name.partition("[")[2].rstrip("]").rpartition("-")
            client = f"node: {client}"
        was_refused = _results[client].get(feature) == _SIGNS["failed"]
        _results[client][feature] = _SIGNS["failed" if was_refused else report.outcome]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write(table(_results))
    if folder := os.environ.get("RESULTS"):  # for the table of all environments
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{Path(sys.prefix).name.lstrip('.')}.json").write_text(json.dumps(_results))

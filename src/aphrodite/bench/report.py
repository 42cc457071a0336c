"""What is written: a table for people, JSON for programs."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aphrodite.bench.figures import Figures, Percentiles
from aphrodite.domain.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_LIBRARIES = ("torch", "jax", "transformers", "numpy")


def table(figures: Figures) -> str:
    """The figures in aligned lines."""
    return "\n".join(_lines(figures))


def _lines(figures: Figures) -> Iterator[str]:
    yield line("requests", f"{figures.num_good} good, {figures.num_failed} failed")
    for kind, count in figures.errors.items():
        yield line(f"  {kind}", str(count))
    yield line("duration", f"{figures.duration_s:.2f} s")
    yield line("tokens", f"{figures.input_tokens} in, {figures.output_tokens} out")
    yield line("requests/s", f"{figures.requests_per_s:.2f}")
    yield line("output tokens/s", f"{figures.output_tokens_per_s:.1f}")
    if figures.offline_ratio is not None:
        offline = f"{figures.offline_output_tokens_per_s:.1f} output tokens/s"
        yield line("LLM.generate", f"{offline}; the server reaches {figures.offline_ratio:.1%}")
    yield ""
    yield line("milliseconds", "".join(f"{name:>10}" for name in ("p50", "p90", "p99")))
    yield line("time to first token", cells(figures.time_to_first_token_ms))
    yield line("time per token", cells(figures.time_per_token_ms))
    yield line("whole answer", cells(figures.whole_answer_ms))
    yield line("health check", cells(figures.health_check_ms))
    if figures.health_checks_failed:
        yield line("", f"{figures.health_checks_failed} of {figures.health_checks} health checks failed")


def line(name: str, value: str) -> str:
    """A name and its value, aligned with the other lines."""
    return f"{name:<24}{value}"


def cells(percentiles: Percentiles | None) -> str:
    """The percentiles in columns of their own."""
    values = [None] * 3 if percentiles is None else [percentiles.p50, percentiles.p90, percentiles.p99]
    return "".join(f"{'-' if value is None else f'{value:.1f}':>10}" for value in values)


def report(settings: dict[str, Any], figures: "DataclassInstance", secret: str | None = None) -> dict[str, Any]:
    """Everything that another run needs for comparison; `secret` is blotted out of the command."""
    command = ["aphrodite", *sys.argv[1:]]
    return {
        "command": [word.replace(secret, "***") if secret else word for word in command],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "commit": _commit(),
        "device": {"platform": f"{platform.system()} {platform.machine()}", "num_cpus": os.cpu_count()},
        "settings": settings,
        "figures": asdict(figures),
    }


def _versions() -> dict[str, str]:
    found = {"aphrodite": version("aphrodite-vlm"), "python": platform.python_version()}
    for package in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _commit() -> str | None:
    """Of the checkout that this file is part of, "-dirty" where it was changed; None where it lies elsewhere."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        asked = [*git, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json cannot be written: {path}: {error.strerror}.") from error

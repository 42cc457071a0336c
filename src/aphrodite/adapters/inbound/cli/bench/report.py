"""What is written: a table for people, JSON for programs."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aphrodite.adapters.inbound.cli.bench.figures import Figures, Percentiles
from aphrodite.domain.errors import ConfigError


def table(figures: Figures) -> str:
    """The figures in aligned lines."""
    return "\n".join(_lines(figures))


def _lines(figures: Figures) -> Iterator[str]:
    yield _line("requests", f"{figures.num_good} good, {figures.num_failed} failed")
    for kind, count in figures.errors.items():
        yield _line(f"  {kind}", str(count))
    yield _line("duration", f"{figures.duration_s:.2f} s")
    yield _line("tokens", f"{figures.input_tokens} in, {figures.output_tokens} out")
    yield _line("requests/s", f"{figures.requests_per_s:.2f}")
    yield _line("output tokens/s", f"{figures.output_tokens_per_s:.1f}")
    if figures.offline_ratio is not None:
        offline = f"{figures.offline_output_tokens_per_s:.1f} output tokens/s"
        yield _line("LLM.generate", f"{offline}; the server reaches {figures.offline_ratio:.1%}")
    yield ""
    yield _line("milliseconds", "".join(f"{name:>10}" for name in ("p50", "p90", "p99")))
    yield _line("time to first token", _cells(figures.time_to_first_token_ms))
    yield _line("time per token", _cells(figures.time_per_token_ms))
    yield _line("whole answer", _cells(figures.whole_answer_ms))
    yield _line("health check", _cells(figures.health_check_ms))
    if figures.health_checks_failed:
        yield _line("", f"{figures.health_checks_failed} of {figures.health_checks} health checks failed")


def _line(name: str, value: str) -> str:
    return f"{name:<22}{value}"


def _cells(percentiles: Percentiles | None) -> str:
    values = [None] * 3 if percentiles is None else [percentiles.p50, percentiles.p90, percentiles.p99]
    return "".join(f"{'-' if value is None else f'{value:.1f}':>10}" for value in values)


def report(settings: dict[str, Any], figures: Figures, secret: str | None) -> dict[str, Any]:
    """Everything that another run needs for comparison; `secret` is blotted out of the command."""
    command = ["aphrodite", *sys.argv[1:]]
    return {
        "command": [word.replace(secret, "***") if secret else word for word in command],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"aphrodite": version("aphrodite-vlm"), "python": platform.python_version()},
        "device": {"platform": platform.platform(), "num_cpus": os.cpu_count()},
        "settings": settings,
        "figures": asdict(figures),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json cannot be written: {path}: {error.strerror}.") from error

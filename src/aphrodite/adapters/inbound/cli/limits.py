"""--limit-mm-per-prompt and --mm-processor-kwargs: flags that hold a dictionary."""

import json
from typing import Any

import typer


def read_limits(value: str | dict[str, int]) -> dict[str, Any]:
    """`image=4,video=0` or JSON to a dictionary, whose values EngineConfig checks. Raises typer.BadParameter."""
    if isinstance(value, dict):  # the default
        return value
    try:
        if "=" in value:
            pairs = (item.split("=") for item in value.split(","))
            limits = {kind.strip(): int(count) for kind, count in pairs}
        else:
            limits = json.loads(value)
    except ValueError as error:
        raise _wrong(value) from error
    if not isinstance(limits, dict):
        raise _wrong(value)
    return limits


def read_settings(value: str | dict[str, Any]) -> dict[str, Any]:
    """JSON to a dictionary. Raises typer.BadParameter."""
    if isinstance(value, dict):  # the default
        return value
    try:
        settings = json.loads(value)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise typer.BadParameter(f"--mm-processor-kwargs must be a JSON object, got {value[:200]!r}.")
    return settings


def _wrong(value: str) -> typer.BadParameter:
    return typer.BadParameter(f"--limit-mm-per-prompt must be image=N, got {value[:200]!r}.")

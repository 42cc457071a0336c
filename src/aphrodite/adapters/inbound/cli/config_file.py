"""--config FILE.yaml: every flag of a command, under its name."""

from pathlib import Path
from typing import Any

import typer
import yaml

from aphrodite.adapters.inbound.cli.pasted_flags import notes_of
from aphrodite.adapters.inbound.cli.vllm_flags import OtherFlag, flag_of


def load_config_file(context: typer.Context, path: str | None) -> str | None:
    """Callback of an eager option: the file's values become the defaults of the other flags.

    So flags, and environment variables, go before the file. Names may be written with - or _.
    """
    if path is None or context.resilient_parsing:
        return path
    parameters = {parameter.name: parameter for parameter in context.command.params if parameter.name != "config"}
    values: dict[str, Any] = {}
    for key, value in _read(path).items():
        name = str(key).replace("_", "-")
        other = flag_of(name) if name.replace("-", "_") not in parameters else None
        if other is not None and not other.ours:
            if value is not None:
                notes_of(context).append(other.note(str(value)))
            continue
        if other is not None:
            name, value = _in_our_words(other, value)
        parameter = parameters.get(name.replace("-", "_"))
        if parameter is None or parameter.name is None:
            raise typer.BadParameter(f"{path} has a flag that does not exist: {key}.")
        if value is None:
            continue
        takes_several = getattr(parameter, "multiple", False)
        if isinstance(value, list) != takes_several and not (takes_several and isinstance(value, str)):
            raise typer.BadParameter(f"{path} has a wrong value for {key}; it takes {_form(takes_several)}.")
        if isinstance(value, dict) or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise typer.BadParameter(f"{path} has a wrong value for {key}; it takes {_form(takes_several)}.")
        values[parameter.name] = [value] if takes_several and isinstance(value, str) else value
    context.default_map = values
    return path


def _in_our_words(other: OtherFlag, value: Any) -> tuple[str, Any]:
    if other.ours.startswith("no-"):
        return f"enable-{other.ours.removeprefix('no-')}", not value
    return other.ours, other.words.get(value, value) if isinstance(value, str) else value


def _read(path: str) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise typer.BadParameter(f"{path} is not valid YAML{line}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{path} must hold flags and their values, as in port: 2242.")
    return content


def _form(takes_several: bool) -> str:
    return "a list of strings" if takes_several else "one value"

"""What typer finds wrong with a command line, as one sentence of ours."""

import re

import typer


def sentence(error: typer.TyperException) -> str:
    """What is wrong with which flag, and where its value came from if not from the command line."""
    if isinstance(error, typer.BadParameter):
        return _of_value(error)
    said = error.format_message()
    option = getattr(error, "option_name", None)
    if option is not None and said.startswith("No such option"):
        near = getattr(error, "possibilities", None)
        return f"There is no flag {option}" + (f"; did you mean {' or '.join(near)}?" if near else ".")
    if option is not None:
        return f"{option} needs a value."
    if (command := re.match(r"No such command '(.*?)'\.?(?: Did you mean '?(.*?)'?\?)?$", said)) is not None:
        return f"There is no command {command[1]}" + (f"; did you mean {command[2]}?" if command[2] else ".")
    if (extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", said)) is not None:
        return f"Nothing is expected here: {extra[1]}."
    return said


def _of_value(error: typer.BadParameter) -> str:
    parameter = error.param
    if parameter is None or parameter.name is None:
        return error.format_message()
    flags = [name for name in parameter.opts if name.startswith("--")]
    subject = flags[0] if flags else parameter.name.upper()
    if not error.message:
        return f"{subject} is missing; see --help."
    said = error.message.removeprefix("Value error, ")  # pydantic's words, within typer's
    said = said.removeprefix(f"{parameter.name} ")
    if (choice := re.match(r"'(.*)' is not one of (.*)\.$", said)) is not None:
        said = f"must be one of {choice[2].replace(chr(39), '')}; got {choice[1]!r}."
    if said[:1].islower():
        return f"{subject} {said}{_source(error, parameter.name)}"
    return said if subject in said else f"{subject}: {said}"


def _source(error: typer.BadParameter, name: str) -> str:
    source = error.ctx.get_parameter_source(name) if error.ctx is not None else None
    return {
        "ENVIRONMENT": f" (in the environment: APHRODITE_{name.upper()})",
        "DEFAULT_MAP": f" (in the file of --config: {name})",
    }.get(source.name if source is not None else "", "")

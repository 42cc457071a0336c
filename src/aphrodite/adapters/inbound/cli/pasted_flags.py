"""Command lines as people paste them: other names, other spellings, several values behind one flag."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from aphrodite.adapters.inbound.cli.vllm_flags import OtherFlag, flag_of

_NOTES = "aphrodite.flags_without_effect"  # in a context's meta


class RunCommand(TyperCommand):
    """A command that takes vLLM's flags as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # the context's type is typer's own
        if not ctx.resilient_parsing:  # for shell completion nothing is to be complained about
            args = _Translation(self.params, notes_of(ctx)).of(args)
        return super().parse_args(ctx, args)


def notes_of(context: typer.Context) -> list[str]:
    """What flags without effect are to be said in the log."""
    notes: list[str] = context.meta.setdefault(_NOTES, [])
    return notes


class _Translation:
    """Of one command line into flags that the command has. Raises ConfigError for those that cannot be used."""

    def __init__(self, params: Sequence[Any], notes: list[str]) -> None:
        self._own: Mapping[str, Any] = {
            name: param for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")
        }
        self._notes = notes
        self._done: list[str] = []
        self._has_model = False

    def of(self, args: Sequence[str]) -> list[str]:
        left = deque(args)
        while left:
            arg = left.popleft()
            if arg == "--":
                return [*self._done, arg, *left]
            if not arg.startswith("-") or arg == "-":
                self._has_model = True
                self._done.append(arg)
            else:
                self._take(arg, left)
        return self._done

    def _take(self, arg: str, left: deque[str]) -> None:
        name, equals, value = arg.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        if name in self._own:
            self._take_own(name, value if equals else None, left)
        elif name == "--model":
            self._has_model = True
            self._done.insert(0, value if equals or not left else left.popleft())
        elif name.startswith("-O") and name[2:].isdecimal():  # -O3 is --compilation-config 3
            self._take(f"--compilation-config={name[2:]}", left)
        elif (flag := flag_of(name.lstrip("-"))) is not None:
            self._take_other(
                flag, "false" if name.startswith("--no-") and not flag.ours else value if equals else None, left
            )
        else:
            self._done.append(arg)

    def _take_own(self, name: str, value: str | None, left: deque[str]) -> None:
        param = self._own[name]
        if getattr(param, "is_flag", False):
            self._done.append(name if value is None else f"{name}={value}")
            return
        if value is None and left:
            value = left.popleft()
        self._done += [name] if value is None else [name, value]
        # Several values behind one flag, which would else be the model.
        while getattr(param, "multiple", False) and self._has_model and left and not left[0].startswith("-"):
            self._done += [name, left.popleft()]

    def _take_other(self, flag: OtherFlag, value: str | None, left: deque[str]) -> None:
        if flag.ours:
            name = f"--{flag.ours}"
            if value is None and left and not getattr(self._own.get(name), "is_flag", False):
                value = left.popleft()
            for each in _listed(value) if value is not None else [None]:
                self._take_own(name, each if each is None else flag.words.get(each, each), left)
            return
        follows = bool(left) and not left[0].startswith("-")
        if value is None and follows and (not flag.is_switch or left[0].lower() in ("true", "false")):
            value = left.popleft()
        self._notes.append(flag.note(value))


def _listed(value: str) -> list[str]:
    """The strings of a JSON list; whatever else, as it is."""
    try:
        values = json.loads(value) if value.startswith("[") else None
    except ValueError:
        values = None
    return [str(item) for item in values] if isinstance(values, list) else [value]

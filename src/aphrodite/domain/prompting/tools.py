"""Functions that a model may ask to have called, and whether it must."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aphrodite.domain.errors import ToolChoiceError, ToolError

_MAX_NAME_CHARS = 256


@dataclass(frozen=True, slots=True)
class Tool:
    """One function. Raises ToolError for a name or parameters of another kind."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})  # JSON Schema
    strict: bool = False  # the arguments shall follow the schema; forced calls do in any case

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > _MAX_NAME_CHARS or not self.name.isprintable():
            raise ToolError(f"A tool's name must have 1 to {_MAX_NAME_CHARS} printable characters.")
        if self.parameters.get("type", "object") != "object":
            raise ToolError(f'The parameters of the tool {self.name} must be a JSON schema of {{"type": "object"}}.')

    @property
    def definition(self) -> dict[str, Any]:
        """As chat templates take it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may call, must call, or must call the function of this name."""

    mode: Literal["none", "auto", "required"]
    name: str | None = None  # with "required": the only one that may be called


AUTO = ToolChoice("auto")


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Raises ToolError for two tools of one name, and ToolChoiceError for a choice that none of them can satisfy."""
    names = set[str]()
    for tool in tools:
        if tool.name in names:
            raise ToolError(f"Two tools are called {tool.name}; each needs a name of its own.")
        names.add(tool.name)
    if choice.mode == "required" and not tools:
        raise ToolChoiceError("tool_choice asks for a call, and there are no tools.")
    if choice.name is not None and choice.name not in names:
        raise ToolChoiceError(f"tool_choice asks for {choice.name[:_MAX_NAME_CHARS]!r}, which is none of the tools.")

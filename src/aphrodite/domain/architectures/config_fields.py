"""Typed access to one dictionary of a config.json."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.errors import UnsupportedModelError

_ACTIVATIONS: tuple[tuple[str, Activation], ...] = (
    ("silu", "silu"),
    ("swish", "silu"),
    ("gelu", "gelu"),
    ("gelu_python", "gelu"),
    ("gelu_pytorch_tanh", "gelu_tanh"),
    ("gelu_python_tanh", "gelu_tanh"),
    ("gelu_new", "gelu_tanh"),  # the same formula, written out
    ("quick_gelu", "quick_gelu"),
)


@dataclass(frozen=True, slots=True)
class ConfigFields:
    """The values of a config.json, checked one by one as they are read.

    Every method raises UnsupportedModelError, which names the value and says what is supported.
    """

    values: Mapping[str, Any]
    path: str = ""  # of this dictionary within the file: "text_config."

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def section(self, name: str) -> "ConfigFields":
        """A dictionary within this one."""
        value = self.values.get(name)
        if not isinstance(value, Mapping):
            raise self.unsupported(name, "a dictionary")
        return ConfigFields(value, f"{self.path}{name}.")

    def integer(self, name: str, low: int = 1) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self.unsupported(name, f"an integer of at least {low}")
        return value

    def number(self, name: str) -> float:
        """A number above zero."""
        value = self.values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise self.unsupported(name, "a number above 0")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A number above zero; None where the file has none."""
        return self.number(name) if self.has(name) else None

    def flag(self, name: str) -> bool:
        """A boolean; False where the file has none."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.unsupported(name, "true or false")
        return bool(value)

    def choice(self, name: str, choices: Collection[str]) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.unsupported(name, f"one of {', '.join(choices)}")
        return value

    def activation(self, name: str) -> Activation:
        table = dict(_ACTIVATIONS)
        return table[self.choice(name, table)]

    def side(self, name: str) -> int:
        """The side of a square, in pixels, written as one number or as two equal ones."""
        value = self.values.get(name)
        if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
            return ConfigFields({name: value[0]}, self.path).integer(name)
        if isinstance(value, list | tuple):
            raise self.unsupported(name, "a square, one number or two equal ones")
        return self.integer(name)

    def unsupported(self, name: str, supported: str) -> UnsupportedModelError:
        """The error for a value that we cannot run."""
        found = repr(self.values[name]) if name in self.values else "nothing"
        return UnsupportedModelError(
            f"config.json has {self.path}{name} = {_shortened(found)}; supported is {supported}."
        )


def _shortened(text: str, max_chars: int = 120) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."

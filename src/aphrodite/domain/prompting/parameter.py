"""What is known of each sampling parameter: the table that validation, protocols, documentation and steps read."""

import reprlib
import sys
from dataclasses import MISSING, dataclass, fields, replace
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from aphrodite.domain.errors import SamplingParamsError


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry, which stands beside its field's type: `Annotated[float, Parameter("what it does", low=0)]`."""

    meaning: str
    low: float | None = None  # smallest value
    above: float | None = None  # in its place: every value is larger
    high: float | None = None
    source: str = ""  # where it was defined
    stage: str = ""  # by which it changes the distribution; stages run in the order of the table
    kobold: str = ""  # its name in Kobold's API, if it has one there
    ollama: str = ""
    # Of the field itself, filled in by `table_of`.
    name: str = ""
    type: type = float
    is_optional: bool = False
    default: Any = None

    def check(self, value: object) -> None:
        """Raises SamplingParamsError, which names the parameter and its range."""
        if value is None and self.is_optional:
            return
        if self.type is bool and not isinstance(value, bool):
            raise SamplingParamsError(f"{self.name} must be True or False, got {shown(value)}.")
        if self.type is int:
            check_int(self.name, value, self.low, self.high)
        if self.type is float:
            check_number(self.name, value, self.low, self.high, self.above)

    @property
    def range(self) -> str:
        """In words: "0 to 1"."""
        if self.type is bool:
            return "true or false"
        if self.above is not None:
            return f"above {self.above:g}" + ("" if self.high is None else f", at most {self.high:g}")
        if self.high is None:
            return f"at least {self.low:g}"
        return "64 bits" if self.high >= 2**63 else f"{self.low:g} to {self.high:g}"


def table_of(dataclass_type: Any) -> dict[str, Parameter]:
    """The entries of a dataclass by the names of their fields, in order."""
    hints, table = get_type_hints(dataclass_type, include_extras=True), {}
    for field in fields(dataclass_type):
        if get_origin(hints[field.name]) is Annotated:
            annotated, parameter = get_args(hints[field.name])
            kinds = [kind for kind in get_args(annotated) or (annotated,) if kind is not NoneType]
            table[field.name] = replace(
                parameter,
                name=field.name,
                type=kinds[0],
                is_optional=NoneType in get_args(annotated),
                default=None if field.default is MISSING else field.default,
            )
    return table


def shown(value: object) -> str:
    """A user's value, short enough for a sentence."""
    return reprlib.repr(value)


def check_int(name: str, value: object, low: float | None, high: float | None = None) -> None:
    """Raises SamplingParamsError."""
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and (low is None or value >= low)
        and (high is None or value <= high)
    ):
        return
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise SamplingParamsError(f"{name} must be an integer {span}, got {shown(value)}.")


def check_number(
    name: str, value: object, low: float | None, high: float | None = None, above: float | None = None
) -> None:
    """Raises SamplingParamsError; for what is no finite number, too."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max  # nor NaN
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
    ):
        return
    bounds = [
        f"{words} {bound:g}"
        for words, bound in (("above", above), ("at least", low), ("at most", high))
        if bound is not None
    ]
    raise SamplingParamsError(f"{name} must be {' and '.join(bounds) or 'a finite number'}, got {shown(value)}.")

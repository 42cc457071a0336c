"""JSON schemas (draft 2020-12): what of them answers can be held to, checked before one is compiled.

A keyword that would be ignored is refused: an answer must not look as if it had been held to it. What no draft knows
(`x-...`, `discriminator`) is an annotation, as the drafts say.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aphrodite.domain.errors import FormError

_MAX_DEPTH = 64
_MAX_SCHEMAS = 5_000
_MAX_PROPERTIES = 400  # of an object; what compiles them takes their square
_MAX_VALUES = 5_000  # of an enum

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
UNSUPPORTED = frozenset(
    {
        "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "contains", "minContains",
        "maxContains", "uniqueItems", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema",
        "$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy",
    }
)  # fmt: skip
_SCHEMA = ("items", "additionalItems", "additionalProperties")
_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")


def check_schema(schema: object, name: str) -> None:
    """Raises FormError for a schema that cannot be followed; the sentence begins with `name` and says where."""
    _Check(schema, name).run()


def places_of(schema: object, keyword: str, part: str = "") -> list[str]:
    """Where a schema that was checked has a keyword, in whose value `part` stands, as a value or as a name."""
    places, left = [], [(schema, "#")]
    while left:
        value, at = left.pop()
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in reversed(list(pairs)):
            place = f"{at}/{_escaped(str(key))}"
            left.append((inner, place))
            if key == keyword and (not part or part == inner or (isinstance(inner, dict) and part in inner)):
                places.append(place)
    return places


def parse_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object from its text. Raises FormError."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise FormError(f"{name} is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise FormError(f"{name} is not valid JSON: see line {error.lineno}, column {error.colno}.") from error
    except ValueError as error:
        raise FormError(f"{name} is not valid JSON.") from error
    if not isinstance(found, dict):
        raise FormError(f"{name} must be a JSON object.")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's own


class _Check:
    def __init__(self, root: Any, name: str) -> None:
        self._root = root
        self._name = name
        self._num_schemas = 0

    def run(self) -> None:
        left: list[tuple[Any, str, int]] = [(self._root, "#", 0)]
        while left:
            schema, at, depth = left.pop()
            self._num_schemas += 1
            if depth > _MAX_DEPTH:
                self._fail(at[:80], f"schemas are nested more than {_MAX_DEPTH} deep")
            if self._num_schemas > _MAX_SCHEMAS:
                self._fail("#", f"there are more than {_MAX_SCHEMAS} schemas")
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                self._fail(at, "a schema must be an object, true or false")
            for keyword, value in schema.items():
                place = f"{at}/{_escaped(keyword)}"
                if keyword in UNSUPPORTED:
                    self._fail(place, f"the keyword {keyword} is not supported")
                if keyword in _SCHEMA:
                    if isinstance(value, list):  # of drafts before 2020-12
                        self._fail(place, "a list of schemas is not supported; write it as prefixItems")
                    left.append((value, place, depth + 1))
                elif keyword in _SCHEMAS:
                    self._expect(isinstance(value, list) and bool(value), place, "a list of schemas")
                    left += [(item, f"{place}/{index}", depth + 1) for index, item in enumerate(value)]
                elif keyword in _NAMED_SCHEMAS:
                    self._expect(isinstance(value, dict), place, "an object of schemas")
                    if keyword == "properties" and len(value) > _MAX_PROPERTIES:
                        self._fail(place, f"an object has more than {_MAX_PROPERTIES} properties")
                    left += [(item, f"{place}/{_escaped(key)}", depth + 1) for key, item in value.items()]
                elif keyword in _CHECKS:
                    check, expected = _CHECKS[keyword]
                    self._expect(check(value), place, expected)
            if "$ref" in schema:
                self._resolve(schema["$ref"], f"{at}/$ref")

    def _resolve(self, reference: object, at: str) -> None:
        self._expect(isinstance(reference, str), at, "a string")
        assert isinstance(reference, str)
        if reference != "#" and not reference.startswith("#/"):
            self._fail(at, "a reference must lead to a place in this schema, such as #/$defs/item")
        found: Any = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                self._fail(at, "the reference leads nowhere")
        self._expect(isinstance(found, dict | bool), at, "a reference to a schema")

    def _expect(self, is_right: bool, at: str, expected: str) -> None:
        if not is_right:
            self._fail(at, f"there must be {expected}")

    def _fail(self, at: str, what: str) -> None:
        raise FormError(f"{self._name} cannot be followed at {at}: {what}.")


def _escaped(key: str) -> str:
    """A key as JSON pointers (RFC 6901) write it."""
    return key.replace("~", "~0").replace("/", "~1")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bound(value: object) -> bool:
    return _is_number(value) or isinstance(value, bool)  # of draft 4


def _is_step(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _are_types(value: object) -> bool:
    types = value if isinstance(value, list) else [value]
    return bool(types) and all(isinstance(name, str) and name in _TYPES for name in types)


def _are_values(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_VALUES


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_format(value: object) -> bool:
    return isinstance(value, str) and value in FORMATS


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "type": (_are_types, f"a type or a list of types out of {', '.join(sorted(_TYPES))}"),
    "enum": (_are_values, f"a list of 1 to {_MAX_VALUES} values"),
    "required": (_are_names, "a list of strings"),
    "pattern": (_is_text, "a string"),
    "format": (_is_format, f"one of the formats {', '.join(sorted(FORMATS))}"),
    "multipleOf": (_is_step, "a number above 0"),
    **dict.fromkeys(("minimum", "maximum"), (_is_number, "a number")),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (_is_bound, "a number")),
    **dict.fromkeys(
        ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
        (_is_count, "an integer of at least 0"),
    ),
}

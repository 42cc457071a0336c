"""Forms in the notation that llguidance reads, a variant of Lark's."""

import json
from collections.abc import Iterator
from typing import Any

from aphrodite.domain.errors import FormError
from aphrodite.domain.prompting.json_schema import check_schema, parse_object
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

_TAGS = "structured_outputs.structural_tag"
_MAX_DEPTH = 100  # of brackets: the library reads them by recursion

# What models write between the parts of JSON, and an end to it: one that draws at random would write blanks for ever.
_JSON_OPTIONS = {
    "whitespace_pattern": r" {1,2}|\r?\n[ \t]{0,64}",
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}


# Of text that can only go on in one way the library finds all that follows at once, which takes seconds if it is long.
_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'


def grammar_of(form: StructuredOutputs) -> str:
    """What the library compiles. Raises FormError for what is wrong before that."""
    return _grammar_of(form) + _NO_FORCING


def _grammar_of(form: StructuredOutputs) -> str:
    if form.json is not None:
        schema = parse_object(str(form.json), "structured_outputs.json")
        return "start: %json " + json.dumps(_guided(schema, "structured_outputs.json"))
    if form.json_object:
        return "start: %json " + json.dumps(_guided({"type": "object"}, "structured_outputs.json_object"))
    if form.regex is not None:
        return _regex(form.regex)
    if form.choice is not None:  # one word of the grammar, not as many rules
        return "start: CHOICE\nCHOICE: " + " | ".join(json.dumps(one, ensure_ascii=False) for one in form.choice)
    if form.grammar is not None:
        return _lark(form.grammar)
    return _tags(parse_object(str(form.structural_tag), _TAGS))


def _guided(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema with the library's options, which are ours and not the client's. Raises FormError."""
    check_schema(schema, name)
    return schema | {"x-guidance": _JSON_OPTIONS}


def _regex(regex: str) -> str:
    from llguidance import LLMatcher

    _check_depth(regex, "structured_outputs.regex")
    [grammar] = json.loads(LLMatcher.grammar_from_regex(_whole(regex)))["grammars"]
    return str(grammar["lark_grammar"])


def _whole(regex: str) -> str:
    """Without anchors at its ends, as the whole answer matches anyway."""
    is_anchored = regex.endswith("$") and (len(regex) - len(regex[:-1].rstrip("\\"))) % 2 == 1
    return regex.removeprefix("^")[: -1 if is_anchored else None]


def _lark(grammar: str) -> str:
    """Lark's notation as it is, llama.cpp's GBNF translated."""
    from llguidance.gbnf_to_lark import any_to_lark

    _check_depth(grammar, "structured_outputs.grammar")
    if "::=" not in grammar:
        return grammar
    try:
        return str(any_to_lark(grammar))
    except Exception as error:
        raise FormError("structured_outputs.grammar is neither valid GBNF nor Lark's notation.") from error


def _tags(given: dict[str, Any]) -> str:
    """Any text, in which a trigger begins a tag: its beginning, JSON of its schema, and its end.

    With `otherwise`, a schema, an answer is JSON of that, or tags alone, which need no triggers; `only_one`: one tag.
    """
    from llguidance import StructTag

    if "otherwise" in given:
        return _tags_or_json(given)
    triggers = given.get("triggers")
    if not _is_list_of(triggers, str):
        raise FormError(f"{_TAGS} must have a list of triggers, not an empty one.")
    tags = []
    for number, (begin, schema, end) in enumerate(_structures(given)):
        trigger = next((trigger for trigger in triggers or () if trigger and begin.startswith(trigger)), None)
        if trigger is None:
            raise FormError(f"{_TAGS} at #/structures/{number} begins with none of the triggers.")
        tags.append(StructTag(trigger=trigger, begin=begin, grammar=schema, end=end))
    return str(StructTag.to_grammar(tags, assume_special=False))


def _tags_or_json(given: dict[str, Any]) -> str:
    tags = [
        f"{json.dumps(begin)} %json {json.dumps(schema)} {json.dumps(end)}" for begin, schema, end in _structures(given)
    ]
    if not isinstance(given["otherwise"], dict):
        raise FormError(f"{_TAGS} must have otherwise, an object.")
    several = "" if given.get("only_one") else ' ("\\n"? tag)*'
    return "\n".join(
        [
            f"start: answer | tag{several}",
            f"answer: %json {json.dumps(_guided(given['otherwise'], _TAGS))}",
            "tag: " + " | ".join(f"tag_{number}" for number in range(len(tags))),
            *(f"tag_{number}: {tag}" for number, tag in enumerate(tags)),
        ]
    )


def _structures(given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What stands before JSON, its schema, and what stands behind it. Raises FormError."""
    structures = given.get("structures")
    if not _is_list_of(structures, dict):
        raise FormError(f"{_TAGS} must have a list of structures, not an empty one.")
    for number, structure in enumerate(structures or ()):
        begin, schema, end = (structure.get(key) for key in ("begin", "schema", "end"))
        at = f"{_TAGS} at #/structures/{number}"
        if not isinstance(begin, str) or not isinstance(end, str) or not isinstance(schema, dict):
            raise FormError(f"{at} must have begin and end, two strings, and schema, an object.")
        yield begin, _guided(schema, at), end


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise FormError(f"{name} has brackets nested more than {_MAX_DEPTH} deep.")
        elif character in ")]}":
            depth = max(0, depth - 1)

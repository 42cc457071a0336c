"""Forms in the notation that llguidance reads, a variant of Lark's."""

import json
from typing import Any

from aphrodite.domain.errors import FormError
from aphrodite.domain.prompting.json_schema import check_schema, parse_object
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

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
    return _tags(parse_object(str(form.structural_tag), "structured_outputs.structural_tag"))


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
    """Any text, in which a trigger begins a tag: its beginning, JSON of its schema, and its end."""
    from llguidance import StructTag

    name = "structured_outputs.structural_tag"
    triggers, structures = given.get("triggers"), given.get("structures")
    if not _is_list_of(triggers, str) or not _is_list_of(structures, dict):
        raise FormError(f"{name} must have a list of structures and one of triggers, neither of them empty.")
    tags = []
    for index, structure in enumerate(structures or ()):
        begin, schema, end = (structure.get(key) for key in ("begin", "schema", "end"))
        at = f"{name} at #/structures/{index}"
        if not isinstance(begin, str) or not isinstance(end, str) or not isinstance(schema, dict):
            raise FormError(f"{at} must have begin and end, two strings, and schema, an object.")
        trigger = next((trigger for trigger in triggers or () if trigger and begin.startswith(trigger)), None)
        if trigger is None:
            raise FormError(f"{at} begins with none of the triggers.")
        tags.append(StructTag(trigger=trigger, begin=begin, grammar=_guided(schema, at), end=end))
    return str(StructTag.to_grammar(tags, assume_special=False))


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

"""Arguments in JSON are told while the model writes them, once it is sure which function is called."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from tests.domain.generation.tool_calls.templates import FAMILIES
from tests.domain.generation.tool_calls.test_round_trips import ARGUMENTS, TOOL, read, write

from aphrodite.domain.generation.message import CallArguments, CallStart, Content, Piece
from aphrodite.domain.generation.tool_calls.formats import CALL_FORMATS
from aphrodite.domain.generation.tool_calls.reader import FormattedCalls

GRADUAL = ["hermes", "internlm", "llama-3", "mistral"]


def pieces_of(name: str, text: str) -> list[list[Piece]]:
    """What each character adds."""
    ids = count()
    reader = FormattedCalls(CALL_FORMATS[name], {"weather": TOOL}, lambda: f"id{next(ids)}", only_one=False)
    return [*map(reader.push, text), reader.finish()]


@pytest.mark.parametrize("family", GRADUAL)
@settings(max_examples=30, deadline=None)
@given(ARGUMENTS)
def test_each_character_of_arguments_is_told_as_it_comes(family: str, arguments: dict[str, Any]) -> None:
    name, template, _ = FAMILIES[family]
    told = pieces_of(name, write(template, "", [("weather", arguments)]))
    pieces = [piece for step in told for piece in step]
    assert isinstance(pieces[0], CallStart)
    texts = [piece.text for piece in pieces[1:] if isinstance(piece, CallArguments)]
    assert len(texts) == len(pieces) - 1
    assert all(len(text) == 1 for text in texts)
    assert json.loads("".join(texts)) == arguments


def test_which_formats_tell_arguments_as_they_come() -> None:
    gradual = {name for name, call_format in CALL_FORMATS.items() if call_format.head is not None}
    assert gradual == {FAMILIES[family][0] for family in GRADUAL}


def test_a_function_that_is_none_of_the_tools_is_told_when_its_call_is_whole() -> None:
    text = '<tool_call>{"name": "walk", "arguments": {"x": 1}}</tool_call>'
    told = pieces_of("hermes", text)
    assert not any(told[: len(text) - 1])
    assert len(told[len(text) - 1]) == 2


def test_a_call_that_was_cut_off_is_a_call() -> None:
    message = read("hermes", ['Let me look. <tool_call>{"name": "weather", "arguments": {"city": "Pa'])
    assert message.content == "Let me look."
    [call] = message.tool_calls
    assert (call.name, call.arguments) == ("weather", '{"city": "Pa')


def test_what_stands_behind_the_arguments_is_dropped_up_to_the_call_s_end() -> None:
    text = '<tool_call>{"name": "weather", "arguments": {}, "note": "</tool_call>"}\n</tool_call>\nDone.'
    for texts in ([text], list(text)):
        message = read("hermes", texts)
        assert [call.arguments for call in message.tool_calls] == ["{}"]
        assert message.content == "Done."


def test_line_breaks_in_strings_are_escaped() -> None:
    [call] = read(
        "hermes", ['<tool_call>{"name": "weather", "arguments": {\n"city": "a\nb\\n\tc"}}</tool_call>']
    ).tool_calls
    assert json.loads(call.arguments) == {"city": "a\nb\n\tc"}


def test_words_behind_a_call_are_content() -> None:
    text = '<tool_call>{"name": "weather", "arguments": {}}</tool_call> Done.'
    last = [piece for step in pieces_of("hermes", text) for piece in step][-1]
    assert isinstance(last, Content)

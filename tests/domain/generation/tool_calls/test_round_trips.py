"""What a family's template writes of calls is read back as these calls, however the text was cut."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.generation.tool_calls.templates import FAMILIES
from transformers.cli.serving.utils import _RESPONSE_TEMPLATE_FALLBACKS
from transformers.utils.chat_parsing.response_parser import parse_response
from transformers.utils.chat_template_utils import render_jinja_template

from aphrodite.domain.generation.message import AssistantMessage, Piece, assemble
from aphrodite.domain.generation.tool_calls.formats import CALL_FORMATS, find_call_format
from aphrodite.domain.generation.tool_calls.reader import FormattedCalls
from aphrodite.domain.prompting.tools import Tool

TOOL = Tool(
    "weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "warm": {"type": "boolean"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "near": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object"},
        },
    },
)
# Words of every kind, but for the marks themselves and blanks at the ends, which some formats cannot hold.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and not any(mark in text for mark in ("<", "[TOOL", "```", "null", "None"))
)
KEYS = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "city": WORDS,
        "days": st.integers(-(10**6), 10**6),
        "warm": st.booleans(),
        "note": st.none() | WORDS,
        "near": st.lists(WORDS, max_size=3),
        "place": st.dictionaries(KEYS, WORDS | st.integers(0, 9) | st.booleans() | st.none(), max_size=2),
    },
)
CALLS = st.lists(st.tuples(st.sampled_from(["weather", "get_time"]), ARGUMENTS), min_size=1, max_size=3)


def write(template: str, content: str, calls: Sequence[tuple[str, Any]]) -> str:
    """As transformers renders the message."""
    tool_calls = [{"type": "function", "function": {"name": name, "arguments": args}} for name, args in calls]
    message = {"role": "assistant", "content": content, "tool_calls": tool_calls}
    [text], _ = render_jinja_template([[message]], chat_template=template)
    return str(text)


def read(name: str, pieces_of_text: Sequence[str], *, only_one: bool = False) -> AssistantMessage:
    ids = count()
    tools = {"weather": TOOL, "get_time": Tool("get_time", parameters=TOOL.parameters)}
    reader = FormattedCalls(CALL_FORMATS[name], tools, lambda: f"id{next(ids)}", only_one=only_one)
    pieces: list[Piece] = []
    for text in pieces_of_text:
        pieces += reader.push(text)
    return assemble([*pieces, *reader.finish()])


def cut(text: str, places: Sequence[int]) -> Iterator[str]:
    start = 0
    for place in sorted(place % (len(text) + 1) for place in places):
        yield text[start:place]
        start = place
    yield text[start:]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(st.just("") | WORDS, CALLS, st.lists(st.integers(0, 10**4), max_size=12))
def test_what_a_template_writes_is_read_back(
    family: str, content: str, calls: list[tuple[str, Any]], places: list[int]
) -> None:
    name, template, takes_content = FAMILIES[family]
    content = content if takes_content else ""
    text = write(template, content, calls)
    message = read(name, [text])
    assert message.content == (content or None)
    assert [(call.name, json.loads(call.arguments)) for call in message.tool_calls] == calls
    assert len({call.id for call in message.tool_calls}) == len(calls)
    assert read(name, list(cut(text, places))) == message
    assert read(name, list(text)) == message
    assert read(name, [text], only_one=True).tool_calls == message.tool_calls[:1]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(CALLS, st.integers(0, 10**4), st.text(max_size=6), st.lists(st.integers(0, 10**4), max_size=12))
def test_damaged_text_is_read_alike_however_it_was_cut(
    family: str, calls: list[tuple[str, Any]], place: int, damage: str, places: list[int]
) -> None:
    name, template, _ = FAMILIES[family]
    text = write(template, "", calls)
    place %= len(text) + 1
    for damaged in (text[:place] + damage + text[place:], text[:place], text[place:]):
        message = read(name, [damaged])
        assert read(name, list(cut(damaged, places))) == message
        assert read(name, list(damaged)) == message
        if CALL_FORMATS[name].head is None:  # of others what was told is not taken back
            assert all(isinstance(json.loads(call.arguments), dict) for call in message.tool_calls)
        if not message.tool_calls:
            assert message.content == damaged


@pytest.mark.parametrize("family", FAMILIES)
def test_the_template_shows_the_format(family: str) -> None:
    name, template, _ = FAMILIES[family]
    if family not in ("llama-3", "pythonic"):  # which show it in the words with which they explain their tools
        assert find_call_format(None, template) is CALL_FORMATS[name]


@pytest.mark.parametrize(
    ("family", "model_type"), [("hermes", "qwen3"), ("qwen3-coder", "qwen3_5"), ("gemma-4", "gemma4")]
)
@settings(max_examples=40, deadline=None)
@given(CALLS)
def test_calls_are_those_that_transformers_finds(family: str, model_type: str, calls: list[tuple[str, Any]]) -> None:
    name, template, _ = FAMILIES[family]
    text = write(template, "", calls)
    theirs = next(spec for types, spec in _RESPONSE_TEMPLATE_FALLBACKS.items() if model_type in types)
    tools = [TOOL.definition, Tool("get_time", parameters=TOOL.parameters).definition]
    found = parse_response(text, theirs, prefix="", tools=tools).get("tool_calls", [])
    expected = [(call["function"]["name"], call["function"]["arguments"]) for call in found]
    assert [(call.name, json.loads(call.arguments)) for call in read(name, [text]).tool_calls] == expected

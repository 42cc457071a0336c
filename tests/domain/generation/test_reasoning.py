"""Thoughts and the answer, however the text was cut; transformers' own parser beside it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.generation.tool_calls.test_round_trips import cut
from transformers.cli.serving.utils import _RESPONSE_TEMPLATE_FALLBACKS
from transformers.utils.chat_parsing.response_parser import parse_response

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.generation.message import AssistantMessage, Piece, assemble
from aphrodite.domain.generation.message_reader import MessageReader
from aphrodite.domain.generation.reasoning import REASONING_TAGS, ReasoningReader, find_reasoning_tags
from aphrodite.domain.generation.tool_calls.formats import CALL_FORMATS
from aphrodite.domain.generation.tool_calls.reader import FormattedCalls

WORDS = st.text(st.sampled_from("ab \n.<>/think"), max_size=12)


def read(name: str, texts: Sequence[str], *, is_open: bool = False) -> AssistantMessage:
    reader = MessageReader(ReasoningReader(REASONING_TAGS[name], is_open=is_open))
    pieces: list[Piece] = []
    for text in texts:
        pieces += reader.push(text)
    return assemble([*pieces, *reader.finish()])


@settings(max_examples=150, deadline=None)
@given(WORDS, WORDS, WORDS, st.booleans(), st.lists(st.integers(0, 100), max_size=8))
def test_how_a_text_was_cut_makes_no_difference(
    before: str, thought: str, said: str, is_open: bool, places: list[int]
) -> None:
    for text in (before + said, f"{before}<think>{thought}</think>{said}", f"{thought}</think>{said}"):
        whole = read("qwen3", [text], is_open=is_open)
        assert read("qwen3", list(cut(text, places)), is_open=is_open) == whole
        assert read("qwen3", list(text), is_open=is_open) == whole


@pytest.mark.parametrize(("name", "model_type"), [("qwen3", "qwen3"), ("gemma", "gemma4")])
@pytest.mark.parametrize("said", ["Hello!", "Two\n\nlines"])
def test_as_transformers_tells_them_apart(name: str, model_type: str, said: str) -> None:
    tags = REASONING_TAGS[name]
    theirs = next(spec for types, spec in _RESPONSE_TEMPLATE_FALLBACKS.items() if model_type in types)
    text = f"{tags.start}\nHm.\nA greeting.\n{tags.end}\n\n{said}"
    found = parse_response(text, theirs, prefix="")
    message = read(name, [text])
    assert message.reasoning == found["reasoning_content"] == "Hm.\nA greeting."
    assert message.content == found["content"] == said


@pytest.mark.parametrize(
    ("name", "prompt", "is_open"),
    [
        ("qwen3", "user: <think>\nassistant:", False),
        ("qwen3", "assistant:<think>\n", True),
        ("qwen3", "assistant:<think>\n\n</think>\n\n", False),
        ("deepseek_r1", "assistant:", True),
        ("deepseek_r1", "assistant:<think>\n\n</think>\n\n", False),
        ("gemma", "model\n<|channel>thought\n<channel|>", False),
    ],
)
def test_a_prompt_may_hold_the_first_tag(name: str, prompt: str, is_open: bool) -> None:
    assert REASONING_TAGS[name].are_open(prompt, is_continued=False) is is_open


def test_a_continued_answer_may_be_among_its_thoughts() -> None:
    tags = REASONING_TAGS["qwen3"]
    assert tags.are_open("assistant:<think>\nLet me", is_continued=True)
    assert not tags.are_open("assistant:<think>\nHm\n</think>\n\nSo", is_continued=True)


def test_a_tag_that_the_prompt_holds_may_be_repeated() -> None:
    for texts in (["<think>\nHm\n</think>\nSo"], list("<think>\nHm\n</think>\nSo")):
        assert read("deepseek_r1", texts, is_open=True) == AssistantMessage("So", "Hm", ())


@pytest.mark.parametrize(
    ("is_open", "texts", "num_tokens"),
    [
        (False, ["<think>", "\n", "Hm", "\n", "</think>", "\n\n", "So", "."], 5),
        (False, ["<th", "ink>", "Hm</th", "ink>", "So"], 4),
        (False, ["<think>Hm</think>So"], 1),
        (True, ["", "Hm", "", "</think>", "", "So"], 4),
        (True, ["Hm", ", "], 2),
        (False, ["So", " <think>", "Hm", "</think>"], 0),
        (False, ["<", "b>"], 0),
    ],
)
def test_tokens_of_thoughts_are_counted(is_open: bool, texts: list[str], num_tokens: int) -> None:
    reader = MessageReader(ReasoningReader(REASONING_TAGS["qwen3"], is_open=is_open))
    for text in texts:
        reader.push(text, 1)
    assert reader.num_reasoning_tokens == num_tokens


def test_a_call_among_thoughts_is_none() -> None:
    call = '<tool_call>{"name": "f"}</tool_call>'
    reader = MessageReader(
        ReasoningReader(REASONING_TAGS["qwen3"], is_open=False),
        FormattedCalls(CALL_FORMATS["hermes"], {}, lambda: "id", only_one=False),
    )
    pieces = [*reader.push(f"<think>{call}</think>\n\n{call}"), *reader.finish()]
    message = assemble(pieces)
    assert (message.reasoning, message.content, len(message.tool_calls)) == (call, None, 1)


def test_tags_are_found_by_the_template() -> None:
    assert find_reasoning_tags(None, "... '<think>\\n\\n</think>' ...") is REASONING_TAGS["qwen3"]
    assert find_reasoning_tags("none", "</think>") is None
    with pytest.raises(ConfigError, match="--reasoning-parser must be one of qwen3"):
        find_reasoning_tags("loud", "")

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from aphrodite.domain.errors import ImageError, PlaceholderError, PromptError
from aphrodite.domain.prompting.chat import Conversation, ImagePart, TextPart, parse
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.prompts import Prompt

NOW = datetime(2024, 7, 26)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PICTURE = Image.new("RGB", (2, 2))
IMAGE = {"type": "image_pil", "image_pil": PICTURE}

# Text as people and attackers write it: tokens, halves of tokens, template syntax, control characters, private ones.
_WORDS = st.lists(
    st.sampled_from(
        ["<image>", "<image", "<im", "age>", ">", "<", "</think>", "{{ x }}", "{% for %}", "\x00", "\n", " ", "\ue000"]
    )
    | st.text(max_size=6),
    max_size=8,
).map("".join)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _parse(messages: object, max_images: int = 9) -> Conversation:
    return parse(messages, max_images)


def _render(messages: object, source: str, image_token: str | None = "<image>", **options: Any) -> Prompt:
    return render(
        _parse(messages), ChatTemplate(source), image_token=image_token, special_tokens=TOKENS, now=NOW, **options
    )


def _user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A word-level tokenizer; apply_chat_template asks it for its special tokens only."""
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken(name, special=True) for name in (*TOKENS.values(), "<image>")])
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=words, unk_token="<unk>", **TOKENS)


def _theirs(tokenizer: Any, messages: list[dict[str, Any]], source: str) -> str:
    text = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, add_generation_prompt=True)
    return str(text)


def test_text_renders_as_apply_chat_template_does(tokenizer: Any, string_template: str) -> None:
    messages = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}]
    messages.append({"role": "user", "content": "Sure?"})
    prompt = _render(messages, string_template, image_token=None)
    assert prompt.text == _theirs(tokenizer, messages, string_template)
    assert prompt.images == ()
    assert prompt.image_word_offsets == ()


BEGINNINGS = ("A cat", "A cat ", " A\ncat,\n", "<|im_end|> is", "A cat</s>", "What is it?")


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_begun_answer_ends_as_in_apply_chat_template(tokenizer: Any, string_template: str, beginning: str) -> None:
    messages = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": beginning}]
    more: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}
    theirs = tokenizer.apply_chat_template(messages, chat_template=string_template, tokenize=False, **more)
    assert _render(messages, string_template, image_token=None, **more).text == theirs


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_begun_answer_in_parts_ends_as_in_apply_chat_template(
    tokenizer: Any, parts_template: str, beginning: str
) -> None:
    more: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}
    takes_strings = "[INST]" in parts_template  # Pixtral's, from the assistant
    answer = {"role": "assistant", "content": beginning if takes_strings else [_text("Well."), _text(beginning)]}
    theirs = [{"role": "user", "content": [{"type": "image"}, _text("What is it?")]}, answer]
    text = tokenizer.apply_chat_template(theirs, chat_template=parts_template, tokenize=False, **more)
    prompt = _render([*_user(IMAGE, _text("What is it?")), answer], parts_template, **more)
    assert (prompt.text, prompt.image_word_offsets) == (text, (text.index("<image>"),))


def test_strings_for_a_parts_template_become_text_parts(tokenizer: Any, parts_template: str) -> None:
    prompt = _render([{"role": "user", "content": "Hi"}], parts_template)
    assert prompt.text == _theirs(tokenizer, [{"role": "user", "content": [_text("Hi")]}], parts_template)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_a_parts_template_keeps_the_order(tokenizer: Any, parts_template: str, order: tuple[int, ...]) -> None:
    parts = [IMAGE, _text("What is"), _text("it?")]
    prompt = _render(_user(*(parts[i] for i in order)), parts_template)
    theirs = [{"type": "image"}, *parts[1:]]
    text = _theirs(tokenizer, [{"role": "user", "content": [theirs[i] for i in order]}], parts_template)
    assert (prompt.text, prompt.image_word_offsets) == (text, (text.index("<image>"),))
    assert prompt.images == (PICTURE,)


@pytest.mark.parametrize("parts", [(IMAGE, _text("What is it?")), (_text("What is it?"), IMAGE)])
def test_a_string_template_gets_the_placeholder_in_front(
    tokenizer: Any, string_template: str, parts: tuple[Any, ...]
) -> None:
    prompt = _render(_user(*parts), string_template)
    text = _theirs(tokenizer, [{"role": "user", "content": "<image>\nWhat is it?"}], string_template)
    assert (prompt.text, prompt.image_word_offsets) == (text, (text.index("<image>"),))


def test_llava_1_5_as_published(string_templates: Mapping[str, str]) -> None:
    url = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    conversation = _parse(_user(_text("What's in this image?"), url))
    assert conversation.images == ("https://example.com/cat.png",)
    prompt = _render(_user(_text("What's in this image?"), url), string_templates["llava-1.5"])
    assert prompt.text == "USER: <image>\nWhat's in this image? ASSISTANT:"
    assert prompt.image_word_offsets == (6,)


def test_a_placeholder_that_the_user_wrote_beside_an_image_is_the_place(string_templates: Mapping[str, str]) -> None:
    prompt = _render(_user(IMAGE, _text("Compare <image> with the word <image>.")), string_templates["chatml"])
    assert prompt.text is not None
    assert prompt.text.count("<image>") == 2
    assert prompt.image_word_offsets == (prompt.text.index("<image>"),)
    assert "\n<image>" not in prompt.text


def test_several_images_in_a_parts_template_stand_in_their_order(tokenizer: Any, parts_template: str) -> None:
    other = {"type": "image_url", "image_url": "data:image/png;base64,AA=="}
    messages = [
        *_user(IMAGE, _text("<image> one"), other),
        {"role": "assistant", "content": [_text("Two.")]},
        *_user(IMAGE),
    ]
    prompt = _render(messages, parts_template)
    as_given = [
        {"role": "user", "content": [{"type": "image"}, _text("*" * 7 + " one"), {"type": "image"}]},
        {"role": "assistant", "content": [_text("Two.")]},
        {"role": "user", "content": [{"type": "image"}]},
    ]
    expected = _theirs(tokenizer, as_given, parts_template)
    assert prompt.text == expected.replace("*" * 7, "<image>")
    assert prompt.image_word_offsets == tuple(found.start() for found in re.finditer("<image>", expected))
    assert prompt.images == (PICTURE, other["image_url"], PICTURE)


@pytest.mark.parametrize(
    ("text", "content", "words"),
    [
        ("Compare.", "<image>\n<image>\nCompare.", 0),
        ("Is <image> newer?", "<image>\nIs <image> newer?", 0),
        ("<image> or <image>, not <image>?", "<image> or <image>, not <image>?", 1),
    ],
)
def test_a_string_template_gets_the_placeholders_that_are_missing(
    string_templates: Mapping[str, str], text: str, content: str, words: int
) -> None:
    prompt = _render(_user(IMAGE, _text(text), IMAGE), string_templates["chatml"])
    assert prompt.text is not None
    assert content in prompt.text
    places = [found.start() for found in re.finditer("<image>", prompt.text)]
    assert prompt.image_word_offsets == tuple(places[: len(places) - words])


def test_a_placeholder_in_another_message_is_text(string_templates: Mapping[str, str]) -> None:
    messages = [{"role": "user", "content": "What does <image> mean?"}, {"role": "assistant", "content": "<image>!"}]
    prompt = _render([*messages, *_user(IMAGE, _text("And this?"))], string_templates["chatml"])
    assert prompt.text is not None
    assert prompt.image_word_offsets == (prompt.text.rindex("<image>"),)


@pytest.mark.parametrize("image_token", ["<image>", "<|image_pad|>", "[IMG]", "aa"])
@given(before=_WORDS, beside=_WORDS, name=_WORDS)
def test_users_cannot_forge_the_place_in_a_string_template(
    image_token: str, before: str, beside: str, name: str
) -> None:
    before, beside, name = (text.replace("<image>", image_token) for text in (before, beside, name))
    # The template cuts, joins and repeats what it gets, as some do.
    source = "{% for m in messages %}{{ m.role }}{{ m.name }}:{{ m.content | trim }}{{ m.name }}{% endfor %}"
    messages = [{"role": "user", "content": before, "name": name}, *_user(IMAGE, _text(beside))]
    prompt = _render(messages, source, image_token=image_token)
    content = beside if image_token in beside else f"{image_token}\n{beside}"
    head = f"user{name}:{before.strip()}{name}user:"
    assert prompt.text == f"{head}{content.strip()}"
    written = content[: content.index(image_token)]
    assert prompt.image_word_offsets == (len(head) + len(written.lstrip() if written.strip() else ""),)


@given(texts=st.lists(_WORDS, min_size=2, max_size=4), place=st.integers(0, 4))
def test_users_cannot_forge_the_place_in_a_parts_template(texts: list[str], place: int) -> None:
    source = (
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'image' %}<image>"
        "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    parts = [*map(_text, texts)]
    place = min(place, len(parts))
    prompt = _render(_user(*parts[:place], IMAGE, *parts[place:]), source)
    assert prompt.text == "".join([*texts[:place], "<image>", *texts[place:]])
    assert prompt.image_word_offsets == (len("".join(texts[:place])),)


@given(text=_WORDS.filter(str.strip))
def test_without_an_image_every_placeholder_is_text(text: str) -> None:
    prompt = _render([{"role": "user", "content": text}], "{{ messages[0].content }}")
    assert prompt.image_word_offsets == ()
    assert prompt.text == text


def test_a_template_that_looks_into_the_text_is_given_the_text(string_templates: Mapping[str, str]) -> None:
    """Qwen3's drops what stands before "</think>": it must still see that."""
    messages = [
        {"role": "user", "content": "<image>"},
        {"role": "assistant", "content": "an <image>?</think>\nNo <image>."},
    ]
    prompt = _render([*messages, *_user(IMAGE, _text("This?"))], string_templates["qwen3"])
    assert prompt.text is not None
    assert "think" not in prompt.text
    assert prompt.text.count("<image>") == 3
    assert prompt.image_word_offsets == (prompt.text.rindex("<image>"),)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("{{ messages[0].role }}", "leaves the image out"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "writes 2 placeholders for one image"),
        ("{% for p in messages[0].content %}{{ p.text }}{% endfor %}", "leaves the image out"),
    ],
)
def test_a_template_that_loses_or_repeats_the_image_is_an_error(source: str, sentence: str) -> None:
    with pytest.raises(PlaceholderError, match=sentence):
        _render(_user(_text("<image"), IMAGE), source)


def test_a_lost_image_is_not_replaced_by_what_a_user_wrote() -> None:
    source = "{{ messages[0].content }}"
    with pytest.raises(PlaceholderError, match="leaves the image out"):
        _render([{"role": "user", "content": "an <image>"}, *_user(IMAGE)], source)


def test_an_image_for_a_text_model_is_an_error(string_template: str) -> None:
    with pytest.raises(PlaceholderError, match="reads text only"):
        _render(_user(IMAGE), string_template, image_token=None)


@pytest.mark.parametrize(("image_token", "bos", "expected"), [
    (None, "", False), (None, "<s>", False), ("<image>", "", True), ("<image>", "<s>", False),
])  # fmt: skip
def test_special_tokens_are_added_where_transformers_adds_them(
    image_token: str | None, bos: str, expected: bool
) -> None:
    """Never behind a tokenizer's template; behind a processor's unless it began with the first token itself."""
    prompt = _render([{"role": "user", "content": "Hi"}], bos + "{{ messages[0].content }}", image_token=image_token)
    assert prompt.add_special_tokens is expected


def test_the_content_format_can_be_forced() -> None:
    source = "{{ messages[0].content }}"
    assert _render(_user(_text("a")), source, content_format="openai").text == "[{'type': 'text', 'text': 'a'}]"
    assert _render(_user(_text("a"), _text("b")), source).text == "a\nb"


def test_a_developer_is_a_system_to_templates_that_know_no_other() -> None:
    message = [{"role": "developer", "content": ""}]
    assert _render(message, "{{ messages[0].role }}").text == "system"
    assert _render(message, "{{ messages[0].role }}{# developer #}").text == "developer"


def test_other_fields_of_a_message_reach_the_template() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": [1, None]}}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}]
    text = _render(messages, "{{ messages[0] | tojson }}").text
    assert text is not None
    assert '"content": ""' in text
    assert '"arguments": {"x": [1, null]}' in text
    assert "refusal" not in text


CALLS = "{% for call in messages[0].tool_calls %}{{ call.function.name }}"
ARGUMENTS = '{"city": "Zürich", "days":2}'


@pytest.mark.parametrize("given", [ARGUMENTS, {"city": "Zürich", "days": 2}])
@pytest.mark.parametrize(
    ("template", "from_string", "from_mapping"),
    [
        # Hermes' and Llama's way, Mistral's, GLM's, and those that take the string as it is
        ("({{ call.function.arguments | tojson }})", 'f({"city": "Zürich", "days": 2})', None),
        ("({{ call.function | tojson }})", 'f({"name": "f", "arguments": {"city": "Zürich", "days": 2}})', None),
        ("{% for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}",
         "f city=Zürich days=2", None),
        ("({{ call.function.arguments.city }})", "f(Zürich)", None),
        ("{% if call.function.arguments is mapping %} yes{% endif %}", "f yes", None),
        ("({{ call.function.arguments }})", f"f({ARGUMENTS})", 'f({"city": "Zürich", "days": 2})'),
        ("{{ '(' + call.function.arguments + ')' }}", f"f({ARGUMENTS})", 'f({"city": "Zürich", "days": 2})'),
        ("{{ '(' ~ call.function.arguments ~ ')' }}", f"f({ARGUMENTS})", 'f({"city": "Zürich", "days": 2})'),
    ],
)  # fmt: skip
def test_arguments_of_former_calls_fit_templates_of_both_kinds(
    given: Any, template: str, from_string: str, from_mapping: str | None
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": given}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    expected = from_string if isinstance(given, str) or from_mapping is None else from_mapping
    assert _render(messages, CALLS + template + "{% endfor %}").text == expected


@pytest.mark.parametrize(
    ("given", "shown"), [("", "{}"), ("no JSON", '"no JSON"'), ("[1]", '"[1]"'), ("[" * 100_000, None)]
)
def test_arguments_that_are_no_object(given: str, shown: str | None) -> None:
    messages = [{"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": given}}]}]
    text = _render(messages, CALLS + " {{ call.function.arguments | tojson }}{% endfor %}").text
    assert text == f"f {shown or json.dumps(given)}"


def test_an_image_token_in_arguments_is_no_image() -> None:
    call = {"function": {"name": "f", "arguments": '{"x": "<image>"}'}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}, *_user(_text("What?"), IMAGE)]
    source = CALLS + "({{ call.function.arguments }}){% endfor %} {{ messages[1].content }}"
    prompt = _render(messages, source, image_token="<image>")
    assert prompt.text == 'f({"x": "<image>"}) <image>\nWhat?'
    assert prompt.image_word_offsets == (20,)


def test_an_empty_prompt_is_an_error() -> None:
    with pytest.raises(PromptError, match="empty prompt"):
        _render([{"role": "user", "content": "x"}], "{{ nothing }}")


def test_parts_are_read_in_every_accepted_form() -> None:
    conversation = _parse(_user(_text("a"), {"type": "image_url", "image_url": "data:image/png;base64,AA=="}))
    assert conversation.messages[0].parts == (TextPart("a"), ImagePart())
    assert conversation.images == ("data:image/png;base64,AA==",)
    detailed = {"type": "image_url", "image_url": {"url": "http://x/y", "detail": "low"}}
    assert _parse(_user(detailed)).images == ("http://x/y",)
    for kind in ("image", "image_pil"):
        conversation = _parse(_user({"type": kind, kind: PICTURE}))
        assert conversation.images == (PICTURE,)
    assert _parse([{"role": "user", "content": None}]) == _parse([{"role": "user", "content": ""}])
    assert isinstance(_parse(({"role": "tool", "content": "x"},)), Conversation)


@pytest.mark.parametrize(
    ("messages", "error", "sentence"),
    [
        ("hello", PromptError, "Messages must be a list of .*, got str"),
        (None, PromptError, "got None"),
        ({"role": "user"}, PromptError, "got dict"),
        ([], PromptError, "conversation is empty"),
        (["hello"], PromptError, "A message must be .*, got str"),
        ([{"content": "x"}], PromptError, "role of a message must be one of system, .*, got none"),
        ([{"role": "wizard", "content": "x"}], PromptError, "got 'wizard'"),
        ([{"role": ["user"], "content": "x"}], PromptError, "role of a message must be one of"),
        ([{"role": "user", "content": 5}], PromptError, "string or a list of parts, got int"),
        ([{"role": "user", "content": {"type": "text"}}], PromptError, "got dict"),
        (_user("words"), PromptError, "A part of a message must be .*, got str"),
        (_user({"text": "x"}), PromptError, "type of a part must be text, image_url or image_pil, got none"),
        (_user({"type": "video", "video": "x"}), PromptError, "got 'video'"),
        (_user({"type": "text"}), PromptError, 'needs its "text", a string, got None'),
        (_user({"type": "text", "text": 5}), PromptError, "got int"),
        (_user({"type": "image_url"}), PromptError, "image_url part needs"),
        (_user({"type": "image_url", "image_url": {"url": 5}}), PromptError, "the URL a string"),
        (_user({"type": "image_url", "image_url": ""}), PromptError, "image_url part needs"),
        (_user({"type": "image_pil"}), ImageError, '"image_pil" must be a PIL image or a pathlib.Path, got None'),
        (_user({"type": "image", "image": "cat.png"}), ImageError, "got str; a URL belongs in image_url"),
        (_user(IMAGE, IMAGE), PromptError, "At most 1 image may be provided in one prompt, got 2"),
        ([*_user(IMAGE), *_user(IMAGE, IMAGE)], PromptError, "in one prompt, got 3"),
        ([{"role": "user", "content": "x", "name": PICTURE}], PromptError, '"name" of a message must hold plain JSON'),
    ],
)
def test_each_wrong_form_has_its_sentence(messages: object, error: type[PromptError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        _parse(messages, max_images=1)


def test_a_refusal_is_text_and_no_part_is_a_mistake() -> None:
    refusal = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}]
    assert parse(refusal, 1).messages[0].text == "I cannot."
    with pytest.raises(PromptError, match="empty list"):
        parse([{"role": "user", "content": []}], 1)

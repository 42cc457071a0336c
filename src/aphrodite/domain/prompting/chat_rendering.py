"""A conversation to a prompt, with the places of its images known for certain.

Users may write the image token's string themselves, and the marks that stand around images. What they write stays text:
the true ones are found by rendering the conversation a second time, in disguise. The disguise puts private characters,
one for one, in the place of those that these words are made of, in all that the user wrote. Where a word still stands
in the second text, a template, or we, wrote it; the offset is the same in the first:

    first     USER: is <image> in <image>\\n ...       users' and true placeholders look the same
    second    USER: is \ue000\ue001\ue002\ue003\ue004\ue005\ue006 in <image>\\n ...   the true one is left
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any

from aphrodite.domain.errors import PlaceholderError, PromptError
from aphrodite.domain.prompting.chat import Conversation, ImagePart, Message, TextPart
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.content_format import ContentFormat
from aphrodite.domain.prompting.json_object import JsonObject
from aphrodite.domain.prompting.prompts import Prompt

_Disguise = Callable[[str], str]

_END = "\U0010fffd "  # stands behind a text that is to be continued: a character for private use, and a blank


def render(
    conversation: Conversation,
    template: ChatTemplate,
    *,
    image_token: str | None,
    image_marks: Sequence[str] = (),
    special_tokens: Mapping[str, str],
    now: datetime,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    content_format: ContentFormat | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Prompt:
    """The prompt of `conversation`, as transformers' `apply_chat_template` writes it.

    A template that takes strings gets each image as `image_token` and a line break in front of its message's text;
    where that text holds the token already, its first occurrences are the places. A template that takes parts gets
    them in their order and writes the images' places itself. `content_format` overrides what the template looks like.

    `image_token` is None for a text-only model; `image_marks` are the model's other words of images. Prompt.images are
    the conversation's; one that has a URL is still to be fetched. With `continue_final_message` the prompt ends where
    the last message's text does, for the model to go on.

    As in transformers, a tokenizer adds no special tokens behind a template, while the processor of a vision-language
    model does, unless the template began with `bos_token`.

    Raises PromptError when the template refuses or fails on the messages, PlaceholderError when it leaves an image
    out, repeats it, or the model reads text only.
    """
    beginning = ""
    if continue_final_message:
        conversation, beginning = _with_end_marked(conversation)
    if conversation.images and image_token is None:
        raise PlaceholderError("This model reads text only; remove the image, or choose a vision-language model.")

    def write(disguise: _Disguise) -> str:
        messages = _template_messages(conversation, template, content_format, image_token, disguise)
        text = template.render(
            messages,
            now=now,
            tools=_map_strings(list(conversation.tools), disguise),
            add_generation_prompt=add_generation_prompt,
            special_tokens=special_tokens,
            variables=variables,
        )
        return _cut_at_end(text, disguise(beginning)) if continue_final_message else text

    written: list[str] = []

    def record(words: str) -> str:
        written.append(words)
        return words

    text = write(record)
    offsets: tuple[int, ...] = ()
    if conversation.images and image_token is not None:
        private = _private_characters("".join([template.source, text, *written]))
        words = (image_token, *image_marks)
        text, offsets = _find_image_words(text, write, words, private, len(conversation.images))
    if not text:
        raise PromptError("The chat template made an empty prompt of these messages.")
    bos = special_tokens.get("bos_token")
    return Prompt(
        text=text,
        token_ids=None,
        images=conversation.images,
        image_word_offsets=offsets,
        add_special_tokens=image_token is not None and not (bos and text.startswith(bos)),
    )


def _with_end_marked(conversation: Conversation) -> tuple[Conversation, str]:
    """The conversation with a mark behind its last text, and that text."""
    *others, last = conversation.messages
    places = [index for index, part in enumerate(last.parts) if isinstance(part, TextPart)]
    if last.role != "assistant" or not places:
        raise PromptError("To be continued, the last message must be the assistant's, and have a text.")
    parts = list(last.parts)
    beginning = last.parts[places[-1]]
    assert isinstance(beginning, TextPart)
    parts[places[-1]] = TextPart(beginning.text + _END)
    return replace(conversation, messages=(*others, replace(last, parts=tuple(parts)))), beginning.text


def _cut_at_end(text: str, beginning: str) -> str:
    """The text up to the mark; a template that trims messages took the blank from behind it, and those before it."""
    end = text.rfind(_END[0])
    if end < 0 or beginning.strip() not in text:
        raise PromptError("The chat template leaves the last message's text out or changes it; it cannot be continued.")
    return text[:end] if text.startswith(_END, end) else text[:end].rstrip()


def _template_messages(
    conversation: Conversation,
    template: ChatTemplate,
    content_format: ContentFormat | None,
    image_token: str | None,
    disguise: _Disguise,
) -> list[dict[str, Any]]:
    """The messages as the template takes them; all that the user wrote goes through `disguise`."""
    takes_parts = (content_format or template.content_format) == "openai"
    messages = []
    for message in conversation.messages:
        # Templates older than the developer role know it by its first name.
        role = "system" if message.role == "developer" and "developer" not in template.source else message.role
        content: str | list[dict[str, str]]
        if not takes_parts:
            content = _string_content(message, image_token, disguise)
        elif message.is_string and template.accepts_string:
            content = disguise(message.text)
        else:
            content = [
                {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": disguise(part.text)}
                for part in message.parts
            ]
        messages.append({"role": role, "content": content} | _map_strings(message.extra, disguise))
    return messages


def _string_content(message: Message, image_token: str | None, disguise: _Disguise) -> str:
    if not message.num_images or image_token is None:
        return disguise(message.text)
    pieces = message.text.split(image_token, message.num_images)
    num_missing = message.num_images + 1 - len(pieces)
    return f"{image_token}\n" * num_missing + image_token.join(map(disguise, pieces))


def _find_image_words(
    text: str, write: Callable[[_Disguise], str], words: Sequence[str], private: Iterator[str], num_images: int
) -> tuple[str, tuple[int, ...]]:
    """The rendered text, and the offsets of the words in it that no user wrote; the first word is the image token."""
    image_token = words[0]
    if image_token not in text:
        raise PlaceholderError(
            "The chat template leaves the image out; use the template of a vision-language model, or another content "
            "format."
        )
    letters = {character: next(private) for character in dict.fromkeys("".join(words))}
    original = str.maketrans({stand_in: character for character, stand_in in letters.items()})
    everything = str.maketrans(letters)
    any_word = re.compile("|".join(map(re.escape, words)))
    try:
        disguised = write(lambda written: written.translate(everything))
    except PromptError:
        disguised = None
    if disguised is None or disguised.translate(original) != text:
        # The template looks into what the user wrote, for "</think>" say. Then the words' own strings alone are hidden.
        def hide(found: re.Match[str]) -> str:
            return letters[found[0][0]] + found[0][1:]

        disguised = write(lambda written: any_word.sub(hide, written))
    found = list(any_word.finditer(disguised))
    num_places = sum(word[0] == image_token for word in found)
    if num_places != num_images:
        images = "one image" if num_images == 1 else f"{num_images} images"
        wrote = "leaves the image out" if not num_places else f"writes {num_places} placeholders for {images}"
        raise PlaceholderError(f"The chat template {wrote}; use another template or content format.")
    return disguised.translate(original), tuple(word.start() for word in found)


def _private_characters(known: str) -> Iterator[str]:
    """Characters for private use that `known` does not hold."""
    taken = set(known)
    for code in chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)):
        if chr(code) not in taken:
            yield chr(code)
    raise PromptError("The messages hold too many characters for private use; remove some.")


def _map_strings(value: Any, change: _Disguise) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, JsonObject):
        return JsonObject({key: _map_strings(item, change) for key, item in value.items()}, change(str(value)))
    if isinstance(value, Mapping):
        return {key: _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    return value

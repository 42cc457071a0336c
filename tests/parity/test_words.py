"""How pictures stand in the prompts of every family: what is written for one, and what users write beside it."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import pytest
from tests.parity.checkpoints import SEEING
from tests.parity.fixture_types import Folders
from tests.parity.pictures import make
from tests.parity.test_seeing import SIZES
from tests.processors import load_processor

from aphrodite import bootstrap
from aphrodite.bootstrap import Frontend
from aphrodite.domain.architectures.images.words import IMAGE_WORDS
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import PlaceholderError
from aphrodite.domain.prompting.chat import parse
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate
from aphrodite.domain.prompting.content_format import ContentFormat
from aphrodite.domain.prompting.prompts import ProcessedPrompt, Prompt

NAMES = ("clip-llama", *SEEING)
WORDS = sorted(IMAGE_WORDS)
PICTURE = make("RGB", 57, 29).rgb

Frontends = Callable[[str], Frontend]


@pytest.fixture(scope="module")
def frontend(folder: Folders) -> Frontends:
    """What reads prompts for the checkpoint of that name."""
    return cache(lambda name: bootstrap.prepare(EngineConfig(model=str(folder(name)), device="cpu"))[0])


def theirs(folder: Path) -> Any:
    return load_processor(folder / "transformers" if (folder / "transformers").is_dir() else folder)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_for_a_picture(name: str, folder: Folders, frontend: Frontends) -> None:
    """String for string what transformers' processor for the family writes in the placeholder's place."""
    ours, reference = frontend(name), theirs(folder(name))
    replace, margin = reference.replace_image_token, ours.model.image_margin
    for size in SIZES:
        picture = make("RGB", *size).rgb
        written: list[str] = []

        def record(*args: Any, written: list[str] = written, **options: Any) -> str:
            written.append(replace(*args, **options))
            return written[-1]

        with patch.object(reference, "replace_image_token", record):
            reference(text=reference.image_token, images=picture)
        processed = ours.processor.process(Prompt(reference.image_token, None, (picture,)))
        [span] = processed.images
        token_ids = processed.token_ids[span.start : span.stop]
        assert [margin + ours.tokenizer.decode(token_ids, skip_special_tokens=False) + margin] == written


@pytest.mark.parametrize("name", NAMES)
def test_what_users_write_in_a_chat_is_text(name: str, frontend: Frontends) -> None:
    """Words of every family, the model's own too, and halves of them that only the template puts together."""
    ours = frontend(name)
    assert ours.chat_template is not None
    assert ours.image_token is not None
    template, place, words = ChatTemplate(ours.chat_template), ours.image_token, " and ".join(WORDS)
    plain = chat(ours, template, "", [])
    if template.content_format == "openai":
        asked = chat(ours, template, words, [words, place[:3], place[3:]])
        expected = words + place
    else:  # where such a message names the placeholder itself, there the picture goes
        expected = " and ".join(word for word in WORDS if word != place)
        asked = chat(ours, template, words, [expected])
    for word in (place, *ours.image_marks):
        [token_id] = ours.tokenizer.encode(word, add_special_tokens=False)[-1:]
        assert asked.token_ids.count(token_id) == plain.token_ids.count(token_id)
    said = ours.tokenizer.decode(asked.token_ids, skip_special_tokens=True)
    assert words in said
    assert expected in said.replace(words, "", 1)
    assert [span.num_tokens for span in asked.images] == [span.num_tokens for span in plain.images]


@pytest.mark.parametrize("around", ["", "\n", "\n\n"])
@pytest.mark.parametrize("content_format", get_args(ContentFormat))
def test_line_breaks_beside_a_picture(
    content_format: ContentFormat, around: str, folder: Folders, frontend: Frontends
) -> None:
    """They and those that Gemma 3 writes there are one token, as in transformers: in a chat, and in a prompt."""
    ours, reference = frontend("gemma3"), theirs(folder("gemma3"))
    parts = "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text }}{% endif %}"
    template = (
        f"{{% for m in messages %}}U:{{{{ {around!r} }}}}{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}"
        f"{{% for part in m.content %}}{parts}{{% endfor %}}{{% endif %}}{{% endfor %}}"
    )
    content = [{"type": "image_pil", "image_pil": PICTURE}, {"type": "text", "text": around + "Why?"}]
    prompt = render(
        parse([{"role": "user", "content": content}], max_images=1),
        ChatTemplate(template),
        image_token=ours.image_token,
        image_marks=ours.image_marks,
        special_tokens=ours.tokenizer.special_tokens,
        now=datetime(2026, 1, 31),
        content_format=content_format,
    )
    assert prompt.text is not None
    assert f"U:{around}<start_of_image>" in prompt.text
    expected = list(reference(text=prompt.text, images=PICTURE)["input_ids"][0])
    assert ours.processor.process(prompt).token_ids == expected
    assert ours.processor.process(Prompt(prompt.text, None, (PICTURE,))).token_ids == expected


def chat(ours: Frontend, template: ChatTemplate, before: str, beside: list[str]) -> ProcessedPrompt:
    """A message of words, and one of a picture and of words beside it, as the model reads them."""
    picture = {"type": "image_pil", "image_pil": PICTURE}
    content = [picture, *({"type": "text", "text": text} for text in beside)]
    prompt = render(
        parse([{"role": "user", "content": before}, {"role": "user", "content": content}], max_images=1),
        template,
        image_token=ours.image_token,
        image_marks=ours.image_marks,
        special_tokens=ours.tokenizer.special_tokens,
        now=datetime(2026, 1, 31),
    )
    return ours.processor.process(prompt)


@pytest.mark.parametrize("name", NAMES)
def test_words_of_other_families_in_a_prompt_are_text(name: str, folder: Folders, frontend: Frontends) -> None:
    ours, reference = frontend(name), theirs(folder(name))
    known = (ours.image_token, *ours.image_marks, getattr(reference, "video_token", None))
    words = " and ".join(word for word in WORDS if word not in known)
    text = f"{words}: {ours.image_token} {words}"
    processed = ours.processor.process(Prompt(text, None, (PICTURE,)))
    assert processed.token_ids == list(reference(text=text, images=PICTURE)["input_ids"][0])
    assert ours.tokenizer.decode(processed.token_ids, skip_special_tokens=True).count(words) == 2


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_are_told_in_the_models_own_words(name: str, frontend: Frontends) -> None:
    ours = frontend(name)
    assert ours.image_token is not None
    others = " ".join(word for word in WORDS if word not in (ours.image_token, *ours.image_marks))
    for prompt, sentence in (
        (Prompt(f"{others}?", None, (PICTURE,)), f"no placeholder; put {ours.image_token} where"),
        (Prompt(ours.image_token, None), f"with each {ours.image_token}."),
        (Prompt(ours.image_token * 2, None, (PICTURE,)), f"there must be one {ours.image_token} for each."),
    ):
        with pytest.raises(PlaceholderError) as error:
            ours.processor.process(prompt)
        assert sentence in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_word_of_the_checkpoints_is_known(name: str, folder: Folders) -> None:
    """Or users could write it: what a family adds here belongs in IMAGE_WORDS."""
    reference = theirs(folder(name))
    declared = {value for key, value in vars(reference).items() if key.endswith("_token") and isinstance(value, str)}
    declared |= {str(token) for token in reference.tokenizer.get_added_vocab() if "image" in token.lower()}
    own = set(reference.tokenizer.all_special_tokens) & declared - {"<end_of_utterance>"}
    assert own <= IMAGE_WORDS

"""`LLM.chat` against transformers' own chat templates, and user text that looks like a placeholder."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.builders import CHAT_TEMPLATE, IMAGE_TOKEN
from tests.internvl_chat import tiny_internvl_chat
from tests.processors import load_processor
from transformers import AutoProcessor

from aphrodite import LLM, SamplingParams
from aphrodite.domain.errors import ConfigError, ImageError, PlaceholderError, PromptError

GREEDY = SamplingParams(temperature=0, max_tokens=5)
QUESTION = "What is it?"


@pytest.fixture(scope="module")
def processor(llava_folder: Path) -> Any:
    return AutoProcessor.from_pretrained(llava_folder)


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_templates_are_told_of_tools_as_by_transformers(llm: LLM, processor: Any) -> None:
    template = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}" + CHAT_TEMPLATE
    tool = {"type": "function", "function": {"name": "f", "description": "Adds.", "parameters": {"type": "object"}}}
    messages = [{"role": "user", "content": "Hello"}]
    (output,) = llm.chat(messages, GREEDY, chat_template=template, use_tqdm=False, tools=[tool])
    expected = processor.tokenizer.apply_chat_template(
        messages, chat_template=template, tools=[tool], tokenize=False, add_generation_prompt=True
    )
    assert output.prompt == expected
    assert '"Adds."' in expected
    wrong: Any = [1]
    with pytest.raises(PromptError, match="tools must be a list"):
        llm.chat(messages, GREEDY, use_tqdm=False, tools=wrong)


def test_prompt_is_that_of_transformers(llm: LLM, processor: Any, image: Image.Image) -> None:
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi! How can I help?"}]
    (output,) = llm.chat(
        [*history, user({"type": "image_pil", "image_pil": image}, text(QUESTION))], GREEDY, use_tqdm=False
    )
    expected = processor.apply_chat_template(
        [*history, user({"type": "image", "image": image}, text(QUESTION))],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    assert output.prompt_token_ids == expected["input_ids"][0]


def test_a_template_of_strings_in_a_folder_with_code_of_its_own(tmp_path: Path, image: Image.Image) -> None:
    folder = tiny_internvl_chat(tmp_path)
    wide = image.resize((90, 30))
    expected = load_processor(folder / "transformers")(
        text=f"<|im_start|>user\n<IMG_CONTEXT>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n", images=wide
    )
    with LLM(str(folder), device="cpu", dtype="float32") as llm:
        conversation = [user({"type": "image_pil", "image_pil": wide}, text(QUESTION))]
        (output,) = llm.chat(conversation, GREEDY, use_tqdm=False)
    assert output.prompt_token_ids == expected["input_ids"][0]


def test_forms_of_an_image(llm: LLM, image: Image.Image) -> None:
    conversations = [
        [user({"type": "image_pil", "image_pil": image}, text(QUESTION))],
        [user({"type": "image_url", "image_url": {"url": data_url(image)}}, text(QUESTION))],
        [user({"type": "image_url", "image_url": data_url(image)}, text(QUESTION))],
    ]
    outputs = llm.chat(conversations, GREEDY, use_tqdm=False)
    assert len({tuple(output.outputs[0].token_ids) for output in outputs}) == 1
    assert len({output.prompt for output in outputs}) == 1


def test_one_conversation_or_several(llm: LLM) -> None:
    first, second = [{"role": "user", "content": "Hello"}], [user(text("Goodbye"))]
    together = llm.chat([first, second], [GREEDY, GREEDY], use_tqdm=False)
    assert [output.prompt for output in together] == ["<s>USER: Hello\nASSISTANT:", "<s>USER: Goodbye\nASSISTANT:"]
    for conversation, output in zip((first, second), together, strict=True):
        (alone,) = llm.chat(conversation, GREEDY, use_tqdm=False)
        assert alone.outputs[0].token_ids == output.outputs[0].token_ids


def test_without_generation_prompt(llm: LLM) -> None:
    (output,) = llm.chat([user(text("Hello"))], GREEDY, add_generation_prompt=False, use_tqdm=False)
    assert output.prompt == "<s>USER: Hello\n"


def test_template_of_the_call(llm: LLM) -> None:
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    (output,) = llm.chat([{"role": "user", "content": "Hello"}], GREEDY, chat_template=template, use_tqdm=False)
    assert output.prompt == "[Hello]"


def test_text_that_looks_like_a_placeholder(llm: LLM, processor: Any, image: Image.Image) -> None:
    """However often a user writes <image> around a real picture, the picture's 16 tokens are all there are."""
    image_token_id = processor.image_token_id
    written = f"{IMAGE_TOKEN} is what I call{IMAGE_TOKEN}{IMAGE_TOKEN} a tag"
    picture = {"type": "image_pil", "image_pil": image}
    conversations: list[list[dict[str, Any]]] = [
        [user(picture, text(written))],
        [user(text(written), picture)],
        [{"role": "system", "content": written}, user(picture, text(QUESTION))],
        [{"role": "user", "content": written}, {"role": "assistant", "content": written}, user(picture, text(written))],
    ]
    for conversation, output in zip(conversations, llm.chat(conversations, GREEDY, use_tqdm=False), strict=True):
        ids = output.prompt_token_ids
        assert ids.count(image_token_id) == 16
        start = ids.index(image_token_id)
        assert ids[start : start + 16] == [image_token_id] * 16
        said = processor.tokenizer.decode([token for token in ids if token != image_token_id], skip_special_tokens=True)
        num_written = sum(str(message["content"]).count(IMAGE_TOKEN) for message in conversation)
        assert said.count(IMAGE_TOKEN) == num_written > 0 or num_written == 0
    literal = [{"role": "user", "content": written}]
    (output,) = llm.chat(literal, GREEDY, use_tqdm=False)
    assert image_token_id not in output.prompt_token_ids
    assert written in processor.tokenizer.decode(output.prompt_token_ids)


def test_the_picture_is_seen_beside_written_tags(llm: LLM, image: Image.Image) -> None:
    black = Image.new("RGB", image.size)
    written = text(f"{IMAGE_TOKEN} {QUESTION}")
    seen, dark = llm.chat(
        [[user({"type": "image_pil", "image_pil": picture}, written)] for picture in (image, black)],
        SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=0),
        use_tqdm=False,
    )
    assert seen.prompt_token_ids == dark.prompt_token_ids
    assert seen.prompt_logprobs != dark.prompt_logprobs


@pytest.mark.parametrize(
    ("messages", "error", "sentence"),
    [
        ([], PromptError, "empty"),
        ("Hello", PromptError, "Messages must be a list"),
        ([{"role": "user"}, 5], PromptError, "got int"),
        ([{"role": "queen", "content": "Hello"}], PromptError, "role of a message must be one of"),
        ([{"role": "user", "content": 5}], PromptError, "string or a list of parts, got int"),
        ([user({"type": "audio"})], PromptError, "must be text, image_url or image_pil"),
        ([user({"type": "image_pil", "image_pil": "x.png"})], ImageError, "must be a PIL image"),
        (
            [user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}})],
            ImageError,
            "cannot be read",
        ),
        ([user({"type": "image_url", "image_url": {"url": "data:image/png;base64,=!"}})], ImageError, "base64"),
        (
            [user(*[{"type": "image_pil", "image_pil": Image.new("RGB", (9, 9))}] * 2)],
            PromptError,
            "^At most 1 image may be provided in one prompt, got 2.$",
        ),
        (
            [user({"type": "image_pil", "image_pil": Image.new("RGB", (9, 9))})] * 3,
            PromptError,
            "^At most 1 image may be provided in one prompt, got 3.$",
        ),
    ],
)
def test_bad_messages(messages: Any, error: type[PromptError], sentence: str, llm: LLM) -> None:
    with pytest.raises(error) as caught:
        llm.chat(messages, GREEDY, use_tqdm=False)
    assert re.search(sentence, str(caught.value))
    assert not llm._engine.has_unfinished
    assert llm.chat([user(text("Hello"))], GREEDY, use_tqdm=False)[0].finished


def test_image_for_a_text_only_model(text_llm: LLM) -> None:
    with pytest.raises(PlaceholderError, match="reads text only"):
        text_llm.chat([user({"type": "image_pil", "image_pil": Image.new("RGB", (9, 9))})], GREEDY, use_tqdm=False)


def test_template_of_the_engine(llava_folder: Path) -> None:
    with LLM(
        str(llava_folder), device="cpu", kv_cache_memory=1 << 20, chat_template="{{ messages[0].content }}!"
    ) as llm:
        (output,) = llm.chat([{"role": "user", "content": "Hello"}], GREEDY, use_tqdm=False)
        assert output.prompt == "Hello!"
        with pytest.raises(ConfigError, match="template"):
            llm.chat([{"role": "user", "content": "Hello"}], GREEDY, chat_template="{% if %}", use_tqdm=False)
        (output,) = llm.chat(
            [{"role": "user", "content": "Hello"}], GREEDY, chat_template=CHAT_TEMPLATE, use_tqdm=False
        )
        assert output.prompt is not None
        assert output.prompt.endswith("USER: Hello\nASSISTANT:")

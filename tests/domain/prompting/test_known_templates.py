"""Twelve models' templates: what they make of one conversation, by their published formats and by transformers."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.domain.prompting import conftest as styles
from transformers.utils.chat_template_utils import render_jinja_template

from aphrodite.domain.prompting.chat import parse
from aphrodite.domain.prompting.chat_rendering import render
from aphrodite.domain.prompting.chat_template import ChatTemplate

# [INST] and the image in front of the text, as the model's page has it.
LLAVA_NEXT_MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ ' ' + content['text'] + '</s>' }}{% endfor %}{% endif %}{% endfor %}"
)

PHI_3_5_VISION = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

INTERNVL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

EXAMPLES = Path(__file__).parents[3] / "examples/chat_templates"


@dataclass(frozen=True)
class Known:
    name: str
    source: str
    expected: str
    image_token: str | None = None  # None: reads text only
    tokens: tuple[str, str] = ("<s>", "</s>")


KNOWN = [
    Known(
        "LLaVA-1.5",
        (EXAMPLES / "llava.jinja").read_text(encoding="utf-8"),
        "USER: <image>\nWhat is it? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT:",
        "<image>",
    ),
    Known(
        "LLaVA-NeXT-Mistral",
        LLAVA_NEXT_MISTRAL,
        "[INST] <image>\nWhat is it? [/INST] A cat.</s>[INST] Sure? [/INST]",
        "<image>",
    ),
    Known(
        "PaliGemma",
        (EXAMPLES / "paligemma.jinja").read_text(encoding="utf-8"),
        "<image>What is it?\nA cat.\nSure?",
        "<image>",
    ),
    Known(
        "Llama 3",
        styles.LLAMA_3,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA cat.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        tokens=("<|begin_of_text|>", "<|eot_id|>"),
    ),
    Known(
        "Qwen2-VL",
        styles.QWEN2_VL.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n"
        "<|im_start|>assistant\nA cat.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "<|image_pad|>",
    ),
    Known(
        "Qwen3",
        styles.QWEN3,
        "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
    ),
    Known(
        "Gemma 3",
        styles.GEMMA_3.replace("<image>", "<start_of_image>"),
        "<bos><start_of_turn>user\n<start_of_image>What is it?<end_of_turn>\n"
        "<start_of_turn>model\nA cat.<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n",
        "<start_of_image>",
        ("<bos>", "<eos>"),
    ),
    Known(
        "Phi-3.5-V",
        PHI_3_5_VISION,
        "<|user|>\n<|image_1|>\nWhat is it?<|end|>\n<|assistant|>\nA cat.<|end|>\n"
        "<|user|>\nSure?<|end|>\n<|assistant|>\n",
        "<|image_1|>",
    ),
    Known(
        "SmolVLM",
        styles.SMOLVLM,
        "<|im_start|>User:<image>What is it?<end_of_utterance>\nAssistant: A cat.<end_of_utterance>\n"
        "User: Sure?<end_of_utterance>\nAssistant:",
        "<image>",
    ),
    Known(
        "ChatML",
        styles.CHATML,
        "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
    ),
    Known("Mistral", styles.MISTRAL, "<s>[INST] What is it? [/INST]A cat.</s>[INST] Sure? [/INST]"),
    Known(
        "InternVL",
        INTERNVL,
        "<|im_start|>user\n<IMG_CONTEXT>\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "<IMG_CONTEXT>",
    ),
    Known(
        "Pixtral",
        styles.PIXTRAL.replace("<image>", "[IMG]"),
        "<s>[INST][IMG]What is it?[/INST]A cat.</s>[INST]Sure?[/INST]",
        "[IMG]",
    ),
]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_one_conversation(known: Known) -> None:
    words = {"type": "text", "text": "What is it?"}
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    later = [{"role": "assistant", "content": "A cat."}, {"role": "user", "content": "Sure?"}]
    first = [words] if known.image_token is None else [picture, words]
    template = ChatTemplate(known.source)
    tokens = {"bos_token": known.tokens[0], "eos_token": known.tokens[1]}
    prompt = render(
        parse([{"role": "user", "content": first}, *later], max_images=1),
        template,
        image_token=known.image_token,
        special_tokens=tokens,
        now=datetime(2026, 1, 31),
    )
    assert prompt.text == known.expected
    if known.image_token is not None:
        assert prompt.image_word_offsets == (known.expected.index(known.image_token),)
    assert _theirs(known, template, tokens, later) == known.expected


def _theirs(known: Known, template: ChatTemplate, tokens: dict[str, str], later: list[dict[str, str]]) -> str:
    """What transformers makes of the same conversation, in the form that the template takes."""
    messages: list[dict[str, Any]]
    if template.content_format == "string":
        before = "" if known.image_token is None else f"{known.image_token}\n"
        messages = [{"role": "user", "content": f"{before}What is it?"}, *later]
    else:
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
        messages += [
            message
            if template.accepts_string
            else message | {"content": [{"type": "text", "text": message["content"]}]}
            for message in later
        ]
    renderer: Any = render_jinja_template
    (text,), _ = renderer([messages], chat_template=known.source, add_generation_prompt=True, **tokens)
    return str(text)

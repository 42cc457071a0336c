"""What a request of Ollama's API asks, as the chat core takes it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.ollama.protocol import (
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaMessage,
    OllamaTool,
)
from aphrodite.adapters.inbound.http.sampling_fields import OLLAMA, given
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.prompting.tools import Tool

FORM_FIELD = "format"


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A text to continue as it is."""

    text: str
    image_urls: Sequence[str]
    sampling: SamplingParams
    streamed: bool


def to_chat_question(asked: OllamaChatRequest, default: SamplingParams) -> ChatQuestion | None:
    """None where nothing is asked. Raises InvalidRequestError, PromptError or SamplingParamsError."""
    if not asked.messages:
        return None
    return ChatQuestion(
        messages=[_message(message) for message in asked.messages],
        sampling=_sampling(asked, default),
        streamed=asked.stream is not False,
        tools=[_tool(tool) for tool in asked.tools or ()],
        continue_final_message=asked.messages[-1].role == "assistant",
        variables=_variables(asked),
    )


def to_generate_question(asked: OllamaGenerateRequest, default: SamplingParams) -> ChatQuestion | RawQuestion | None:
    """A prompt is a conversation's only question, unless it is raw. Raises as `to_chat_question` does."""
    if not asked.prompt and not asked.images:
        return None
    if asked.raw:
        urls = [_image_url(data) for data in asked.images or ()]
        return RawQuestion(asked.prompt, urls, _sampling(asked, default), asked.stream is not False)
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    user = {"role": "user", "content": _content(asked.prompt, asked.images or ())}
    return ChatQuestion(
        messages=[*system, user],
        sampling=_sampling(asked, default),
        streamed=asked.stream is not False,
        variables=_variables(asked),
    )


def _sampling(asked: OllamaChatRequest | OllamaGenerateRequest, default: SamplingParams) -> SamplingParams:
    """Raises SamplingParamsError or InvalidRequestError."""
    form = _form(asked.format)
    options = asked.options
    if options is None:
        return dataclasses.replace(default, max_tokens=None, structured_outputs=form)
    stop = [options.stop] if isinstance(options.stop, str) else options.stop or []
    max_tokens = None if options.num_predict is None or options.num_predict < 0 else max(options.num_predict, 1)
    stop = [words for words in stop if words]
    return dataclasses.replace(
        default, max_tokens=max_tokens, stop=stop, structured_outputs=form, **given(options, OLLAMA)
    )


def _form(asked: str | dict[str, Any] | None) -> StructuredOutputs | None:
    if not asked:
        return None
    with naming_form(FORM_FIELD):
        return StructuredOutputs(json_object=True) if isinstance(asked, str) else StructuredOutputs(json=asked)


def _image_url(data: str) -> str:
    """A picture in base64 as a URL; what it is, only its bytes say."""
    return f"data:image/png;base64,{data}"


def _message(message: OllamaMessage) -> dict[str, Any]:
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for number, call in enumerate(each.function for each in message.tool_calls or ())
    ]
    return {
        "role": message.role,
        "content": _content(message.content, message.images or ()),
        "reasoning_content": message.thinking,
        "tool_calls": calls or None,
        "name": message.tool_name,
    }


def _content(text: str, images: Sequence[str]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _image_url(data)}} for data in images]
    return [*pictures, {"type": "text", "text": text}]


def _tool(tool: OllamaTool) -> Tool:
    function = tool.function
    if function.parameters is None:
        return Tool(function.name, function.description)
    return Tool(function.name, function.description, function.parameters)


def _variables(asked: OllamaChatRequest | OllamaGenerateRequest) -> dict[str, Any]:
    """What the template is told besides the messages."""
    if asked.think is None:
        return {}
    if isinstance(asked.think, bool):
        return {"enable_thinking": asked.think}
    return {"enable_thinking": True, "reasoning_effort": asked.think}

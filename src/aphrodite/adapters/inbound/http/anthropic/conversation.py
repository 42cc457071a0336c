"""Anthropic's messages and blocks to the chat messages that templates know."""

import msgspec

from aphrodite.adapters.inbound.http.anthropic.protocol import (
    Base64Source,
    CountTokensRequest,
    ImageBlock,
    InputBlock,
    InputMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)


def to_messages(asked: CountTokensRequest) -> list[Message]:
    """The conversation, its system prompt in front. Raises InvalidRequestError."""
    messages: list[Message] = []
    if asked.system:
        messages.append(SystemMessage(_text(asked.system)))
    for index, message in enumerate(asked.messages):
        content = message.content
        blocks: list[InputBlock] = [TextBlock(content)] if isinstance(content, str) else content
        if message.role == "assistant":
            messages.append(_assistant_message(blocks, index))
        else:
            messages += _user_messages(message, blocks, index)
    return messages


def _assistant_message(blocks: list[InputBlock], index: int) -> AssistantMessage:
    texts, thoughts, calls = [], [], []
    for block in blocks:
        match block:
            case TextBlock(text):
                texts.append(text)
            case ThinkingBlock(thinking):
                thoughts.append(thinking)
            case ToolUseBlock(id=call_id, name=name, input=given):
                arguments = msgspec.json.encode(given).decode()
                calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
            case ImageBlock() | ToolResultBlock():
                raise _misplaced(block, index, "a user's")
    return AssistantMessage(
        content="".join(texts),
        reasoning_content="".join(thoughts) or None,
        tool_calls=calls or None,
    )


def _user_messages(message: InputMessage, blocks: list[InputBlock], index: int) -> list[Message]:
    """Results of tools have messages of their own; pictures in them come with what else the user says."""
    results: list[Message] = []
    parts: list[Part] = []
    for block in blocks:
        match block:
            case TextBlock(text):
                parts.append(TextPart(text))
            case ImageBlock():
                parts.append(_image_part(block))
            case ToolResultBlock(tool_use_id=call_id, content=content):
                inner = [TextBlock(content)] if isinstance(content, str) else content or []
                results.append(ToolMessage(_text([item for item in inner if isinstance(item, TextBlock)]), call_id))
                parts += [_image_part(item) for item in inner if isinstance(item, ImageBlock)]
            case _:
                raise _misplaced(block, index, "an assistant's")
    if message.role == "system":
        return [SystemMessage("".join(part.text for part in parts if isinstance(part, TextPart)))]
    if not parts and results:
        return results
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return [*results, UserMessage(parts[0].text)]
    return [*results, UserMessage(parts or "")]


def _text(given: str | list[TextBlock]) -> str:
    return given if isinstance(given, str) else "\n".join(block.text for block in given)


def _image_part(block: ImageBlock) -> ImagePart:
    source = block.source
    if isinstance(source, Base64Source):
        return ImagePart(f"data:{source.media_type or 'image/png'};base64,{source.data}")
    return ImagePart(source.url)


def _misplaced(block: InputBlock, index: int, whose: str) -> InvalidRequestError:
    kind = block.__struct_config__.tag
    return InvalidRequestError(f"A {kind} block belongs in {whose} message.", f"messages[{index}].content")

"""Messages and tools as the OpenAI reference has them, and as other servers' users write them."""

from typing import Annotated, Any

from msgspec import Meta, Struct

# Parts


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class InputTextPart(Struct, tag_field="type", tag="input_text"):  # of the Responses API
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct, omit_defaults=True):
    url: str
    detail: str | None = None


class ImagePart(Struct, tag_field="type", tag="image_url", omit_defaults=True):
    image_url: ImageUrl | str | None = None  # None is refused: images are known by their content, not by a uuid
    uuid: str | None = None


class InputImagePart(Struct, tag_field="type", tag="input_image", omit_defaults=True):  # of the Responses API
    image_url: ImageUrl | str
    detail: str | None = None


Part = TextPart | InputTextPart | RefusalPart | ImagePart | InputImagePart
Content = str | Annotated[list[Part], Meta(min_length=1)]

# Messages


class _Message(Struct, kw_only=True, omit_defaults=True, tag_field="role"):
    name: str | None = None


class SystemMessage(_Message, tag="system"):
    content: Content


class DeveloperMessage(_Message, tag="developer"):
    content: Content


class UserMessage(_Message, tag="user"):
    content: Content


class AssistantMessage(_Message, tag="assistant"):
    content: Content | None = None
    # Of former turns; templates may show them.
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    tool_plan: str | None = None


class ToolMessage(_Message, tag="tool"):
    content: Content
    tool_call_id: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
Messages = Annotated[list[Message], Meta(min_length=1)]


# Tools


class Function(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None  # JSON Schema
    strict: bool | None = None


class Tool(Struct, tag_field="type", tag="function"):
    function: Function


class FunctionName(Struct):
    name: str


class NamedTool(Struct, tag_field="type", tag="function"):
    function: FunctionName

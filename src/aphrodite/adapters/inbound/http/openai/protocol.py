"""What goes over the wire, field for field as the OpenAI reference has it.

The same types validate requests, write responses, and make /openapi.json. Requests may say null for whatever is
optional. Ranges are checked here, so that an error can name the field.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from aphrodite.adapters.inbound.http.openai.messages import Messages, NamedTool, Tool
from aphrodite.domain.generation.delta import FinishReason
from aphrodite.domain.generation.message import ChatFinishReason

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


# Requests


class StreamOptions(Struct):
    include_usage: bool | None = None


class JsonSchemaFormat(Struct):
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None  # either way the answer has the schema's form


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    structures: list[dict[str, Any]] | None = None  # of a structural tag, with `triggers`
    triggers: list[str] | None = None


class StructuredOutputsFields(Struct, forbid_unknown_fields=True):
    """Exactly one of these."""

    json: dict[str, Any] | str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None


class GenerationFields(Struct, kw_only=True):
    """What chat and text completions have in common; behind the blank line, the engine's own."""

    model: str
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    echo: bool | None = None
    best_of: int | None = None  # as many as n
    request_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None  # as the header x-request-id
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputsFields | None = None
    guided_json: dict[str, Any] | str | None = None  # older names of these
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


class ChatCompletionRequest(GenerationFields, kw_only=True):
    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None  # goes to the template

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None  # only where the operator trusts requests with templates
    chat_template_kwargs: dict[str, Any] | None = None  # there of any kind, elsewhere plain values


class CompletionRequest(GenerationFields, kw_only=True):
    # One prompt, in words or token ids, or a list of such.
    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None  # 0 with echo: the prompt alone
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

    add_special_tokens: bool | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    return_token_ids: bool | None = None


class TokenizeRequest(Struct, kw_only=True):
    """Either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None


class DetokenizeRequest(Struct, kw_only=True):
    model: str | None = None
    tokens: list[TokenId]


# Responses


class PromptTokensDetails(Struct):
    cached_tokens: int  # found in the prefix cache
    image_tokens: int


class Usage(Struct):
    prompt_tokens: int  # the image's among them
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(Struct):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CalledFunction(Struct):
    name: str
    arguments: str  # JSON


class ResponseCall(Struct):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class ResponseMessage(Struct):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[ResponseCall] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET  # the same under the two names that clients look for
    reasoning: str | UnsetType = UNSET


class ChatChoice(Struct):
    index: int
    message: ResponseMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None  # the stop token or stop string


class ChatCompletion(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # seconds since 1970
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: None = None


class CalledFunctionDelta(Struct, omit_defaults=True):
    arguments: str  # the next characters of the JSON
    name: str | None = None


class CallDelta(Struct, omit_defaults=True):
    """A call begins, with its id and its function's name, or goes on."""

    index: int  # of the message's calls
    function: CalledFunctionDelta
    id: str | None = None
    type: Literal["function"] | None = None


class Delta(Struct, omit_defaults=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDelta] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChatChunkChoice(Struct):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: ChatFinishReason | None = None
    stop_reason: int | str | None = None


class ChatCompletionChunk(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    system_fingerprint: None = None


class PromptLogprob(Struct):
    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""For each token of the prompt, None for the first: token id to candidate."""


class CompletionChoice(Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: int | str | None = None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET  # of the text
    prompt_token_ids: list[int] | UnsetType = UNSET


class Completion(Struct, kw_only=True):
    """A text completion, or one chunk of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: None = None


class TokenizeResponse(Struct):
    count: int
    max_model_len: int
    tokens: list[int]
    image_tokens: int


class DetokenizeResponse(Struct):
    prompt: str


class Model(Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "aphrodite"
    root: str  # what the model was loaded from
    max_model_len: int


class ModelList(Struct):
    data: list[Model]
    object: Literal["list"] = "list"


class Version(Struct):
    version: str


class Health(Struct):
    status: Literal["ok", "unavailable"]


class Load(Struct):
    server_load: int  # sequences that run or wait


class TokenizerInfo(Struct, kw_only=True):
    vocab_size: int
    max_model_len: int
    eos_token_ids: list[int]
    special_tokens: dict[str, str]
    chat_template: str | None  # the tokenizer's own


class ErrorDetail(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    error: ErrorDetail

    @classmethod
    def of(cls, detail: ErrorDetail, status: int) -> "ErrorBody":  # noqa: ARG003 - it says nothing of the status
        """As OpenAI writes an error."""
        return cls(detail)

"""What is answered, field for field as the OpenAI reference has it; these types also make /openapi.json."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from aphrodite.domain.generation.delta import FinishReason
from aphrodite.domain.generation.message import ChatFinishReason


class PromptTokensDetails(Struct):
    cached_tokens: int  # found in the prefix cache
    image_tokens: int


class CompletionTokensDetails(Struct):
    reasoning_tokens: int


class Usage(Struct):
    prompt_tokens: int  # the image's among them
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET  # where thoughts are looked for


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


class PromptLogprob(Struct):
    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""For each token of the prompt, None for the first: token id to candidate."""


class ChatChoice(Struct):
    index: int
    message: ResponseMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason | None
    stop_reason: int | str | None  # the stop token or stop string
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletion(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # seconds since 1970
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: None = None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


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
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletionChunk(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    system_fingerprint: None = None
    prompt_token_ids: list[int] | UnsetType = UNSET  # with the first chunk


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

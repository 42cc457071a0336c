"""What goes over the wire, field for field as Ollama's reference has it, of what its clients send and read."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from aphrodite.adapters.inbound.http.openai.objects import ErrorDetail
from aphrodite.adapters.inbound.http.openai.requests import MAX_TOOLS
from aphrodite.adapters.inbound.http.sampling_fields import OLLAMA, struct_of

if TYPE_CHECKING:
    SamplingFields = Struct
else:
    SamplingFields = struct_of("OllamaSamplingFields", OLLAMA)

# Requests


class OllamaFunction(Struct, kw_only=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OllamaTool(Struct, kw_only=True):
    function: OllamaFunction
    type: str | None = None


class OllamaCalledFunction(Struct, kw_only=True):
    name: str
    arguments: dict[str, Any] = {}


class OllamaCall(Struct, kw_only=True):
    function: OllamaCalledFunction


class OllamaMessage(Struct, kw_only=True, omit_defaults=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    images: list[str] | None = None  # base64
    thinking: str | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None


class OllamaOptions(SamplingFields, kw_only=True):
    num_predict: Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None = None  # below 0: as many as the context holds
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    num_ctx: int | None = None  # the server's own counts


class _OllamaRequest(Struct, kw_only=True):
    model: str
    stream: bool | None = None  # unless this is false
    format: Literal["json", ""] | dict[str, Any] | None = None  # or a JSON schema
    options: OllamaOptions | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    keep_alive: str | float | None = None  # the model stays where it is


class OllamaChatRequest(_OllamaRequest, kw_only=True):
    messages: list[OllamaMessage] = []
    tools: Annotated[list[OllamaTool], Meta(max_length=MAX_TOOLS)] | None = None


class OllamaGenerateRequest(_OllamaRequest, kw_only=True):
    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None  # without the chat template


class OllamaShowRequest(Struct, kw_only=True):
    model: str | None = None
    name: str | None = None  # the same by its first name
    verbose: bool | None = None


# Responses


class _OllamaAnswer(Struct, kw_only=True):
    """A whole answer, or a piece; the last piece says why it ended and what it took."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET  # nanoseconds, as all of these
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class OllamaAnswerMessage(Struct, kw_only=True):
    content: str
    role: Literal["assistant"] = "assistant"
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaCall] | UnsetType = UNSET


class OllamaChatAnswer(_OllamaAnswer, kw_only=True):
    message: OllamaAnswerMessage


class OllamaGenerateAnswer(_OllamaAnswer, kw_only=True):
    response: str
    thinking: str | UnsetType = UNSET


class OllamaDetails(Struct, kw_only=True):
    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class OllamaModel(Struct, kw_only=True):
    name: str
    model: str
    modified_at: str
    size: int = 0  # bytes; not told, as all zeros here
    digest: str = ""
    details: OllamaDetails


class OllamaModels(Struct):
    models: list[OllamaModel]


class OllamaRunningModel(OllamaModel, kw_only=True):
    expires_at: str
    size_vram: int = 0
    context_length: int


class OllamaRunningModels(Struct):
    models: list[OllamaRunningModel]


class OllamaModelInformation(Struct, kw_only=True):
    modelfile: str = ""
    parameters: str = ""
    template: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[Literal["completion", "vision", "tools", "thinking"]]
    modified_at: str


class OllamaVersion(Struct):
    version: str


class OllamaErrorBody(Struct):
    error: str

    @classmethod
    def of(cls, detail: ErrorDetail, status: int) -> "OllamaErrorBody":  # noqa: ARG003 - it says nothing of the status
        """As Ollama writes an error."""
        return cls(detail.message)

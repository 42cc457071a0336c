"""What goes over the wire, as KoboldAI and koboldcpp have it, of what their clients send and read."""

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from aphrodite.adapters.inbound.http.openai.objects import ErrorDetail
from aphrodite.adapters.inbound.http.openai.requests import Bias, Count, TokenId
from aphrodite.adapters.inbound.http.sampling_fields import KOBOLD, struct_of
from aphrodite.domain.generation.delta import FinishReason

if TYPE_CHECKING:
    SamplingFields = Struct
else:
    SamplingFields = struct_of("KoboldSamplingFields", KOBOLD)


class KoboldRequest(SamplingFields, kw_only=True):
    """A text to continue, beside how; `images` are base64."""

    prompt: str
    memory: str | None = None  # stands in front of the prompt
    images: list[str] | None = None
    max_length: Count | None = None
    max_context_length: Count | None = None  # the server's own counts; clients send what they have cut the prompt to
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    dynatemp_range: Annotated[float, Meta(ge=0)] | None = None  # from the temperature, either way
    sampler_order: Annotated[list[Annotated[int, Meta(ge=0, le=6)]], Meta(max_length=64)] | None = None
    dry_sequence_breakers: Annotated[list[str], Meta(max_length=256)] | None = None
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None  # 0 and -1: all tokens
    banned_tokens: Annotated[list[str], Meta(max_length=256)] | None = None  # words
    sampler_seed: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None  # -1: any
    stop_sequence: Annotated[list[str], Meta(max_length=64)] | None = None
    trim_stop: bool | None = None  # false: the answer shows the stop sequence that ended it
    ban_eos_token: bool | None = None
    use_default_badwordsids: bool | None = None  # the same, by its first name
    render_special: bool | None = None
    grammar: str | None = None  # GBNF, that the answer keeps to
    genkey: str | None = None  # names the generation, for /check and /abort


class KoboldResult(Struct, kw_only=True):
    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class KoboldResults(Struct):
    results: list[KoboldResult]


class KoboldToken(Struct):
    """One piece of a streamed text."""

    token: str
    finish_reason: FinishReason | None = None


class KoboldKey(Struct):
    genkey: str | None = None  # none: all of the client's


class KoboldAborted(Struct):
    success: Literal["true", "false"]  # whether there was anything to end
    done: Literal["true"] = "true"


class KoboldCountRequest(Struct):
    prompt: str
    special: bool | None = None  # count what the tokenizer puts in front


class KoboldCount(Struct):
    value: int
    ids: list[int]


class KoboldString(Struct):
    result: str


class KoboldNumber(Struct):
    value: int


class KoboldVersion(Struct, kw_only=True):
    result: Literal["KoboldCpp"] = "KoboldCpp"  # whose API this is; clients look for features by it
    version: str
    protected: bool  # whether keys are needed
    vision: bool
    txt2img: bool = False
    transcribe: bool = False
    multiplayer: bool = False
    websearch: bool = False
    tts: bool = False
    embeddings: bool = False
    audio: bool = False
    savedata: bool = False
    admin: Literal[0] = 0


class KoboldPerformance(Struct, kw_only=True):
    queue: int  # sequences that wait
    idle: Literal[0, 1]
    uptime: int  # seconds


class KoboldErrorDetail(Struct):
    msg: str
    type: str


class KoboldErrorBody(Struct):
    detail: KoboldErrorDetail

    @classmethod
    def of(cls, detail: ErrorDetail, status: int) -> "KoboldErrorBody":
        """As koboldcpp writes an error."""
        return cls(KoboldErrorDetail(detail.message, "service_unavailable" if status == 503 else "bad_input"))

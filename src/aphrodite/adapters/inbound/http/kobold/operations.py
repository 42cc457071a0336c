"""The Kobold API's operations."""

from aphrodite.adapters.inbound.http.kobold import information, protocol
from aphrodite.adapters.inbound.http.kobold.generate import abort, check, generate, generate_stream
from aphrodite.adapters.inbound.http.operation import Operation

_CONTEXT = ("Tokens that the context holds", protocol.KoboldNumber)
_CHECK = ("What a generation has said by now", protocol.KoboldResults)

OPERATIONS = (
    Operation("post", "/api/v1/generate", generate, "Continue a text", protocol.KoboldResults, protocol.KoboldRequest),
    Operation(
        "post",
        "/api/extra/generate/stream",
        generate_stream,
        "Continue a text in pieces",
        request=protocol.KoboldRequest,
        chunk=protocol.KoboldToken,
    ),
    Operation("get", "/api/extra/generate/check", check, *_CHECK),
    Operation("post", "/api/extra/generate/check", check, *_CHECK, protocol.KoboldKey),
    Operation("post", "/api/extra/abort", abort, "End a generation", protocol.KoboldAborted, protocol.KoboldKey),
    Operation(
        "post",
        "/api/extra/tokencount",
        information.token_count,
        "Count the tokens of a text",
        protocol.KoboldCount,
        protocol.KoboldCountRequest,
    ),
    Operation("get", "/api/v1/model", information.model, "The model's name", protocol.KoboldString),
    Operation("get", "/api/v1/info/version", information.info_version, "The API's version", protocol.KoboldString),
    Operation("get", "/api/v1/config/max_context_length", information.max_context_length, *_CONTEXT),
    Operation("get", "/api/extra/true_max_context_length", information.max_context_length, *_CONTEXT),
    Operation(
        "get",
        "/api/v1/config/max_length",
        information.max_length,
        "Tokens of an answer where a request does not say",
        protocol.KoboldNumber,
    ),
    Operation("get", "/api/extra/version", information.extra_version, "What there is here", protocol.KoboldVersion),
    Operation("get", "/api/extra/perf", information.performance, "How busy it is", protocol.KoboldPerformance),
)

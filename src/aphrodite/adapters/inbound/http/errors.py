"""Every error as a status and a sentence, written in the form of the API that was asked; OpenAI's where none was:
`{"error": {"message", "type", "param", "code"}}`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aphrodite.adapters.inbound.http.openai.objects import ErrorBody, ErrorDetail
from aphrodite.adapters.inbound.http.request_note import note_of
from aphrodite.domain import errors as domain

_logger = logging.getLogger(__name__)


class InvalidRequestError(domain.RequestError):
    """A request's body is wrong; `param` names the field where one is to blame."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnauthorizedError(domain.AphroditeError):
    """No key, or a wrong one."""


class UnknownModelError(domain.AphroditeError):
    """A model of that name is not served here."""


class NotFoundError(domain.AphroditeError):
    """What a path names is not there."""


class BodyTooLargeError(domain.AphroditeError):
    """The request's body exceeds --max-body-bytes."""


class BodyEncodingError(domain.AphroditeError):
    """The request's body is compressed, or encoded otherwise."""


class BodyTimeoutError(domain.AphroditeError):
    """The request's body was not there in time."""


class HeadersTooLargeError(domain.AphroditeError):
    """The request's headers are too many or too long."""


class TooManyConnectionsError(domain.AphroditeError):
    """As many connections are open as may be, and every one of them has a request under way."""


class LogprobMemoryError(domain.AphroditeError):
    """The log-probabilities of all answers are too many to be kept, most of them this one's."""


class RequestTimeoutError(domain.AphroditeError):
    """The request took longer than --request-timeout."""


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    type: str
    code: str | None = None
    param: str | None = None


_INVALID, _MESSAGES = "invalid_request_error", "messages"
_MAX_MESSAGE_CHARS, _MAX_PARAM_CHARS = 1000, 200  # a sentence may hold what the client wrote

# The first class that an error is an instance of decides.
_KINDS: tuple[tuple[type[Exception], _Kind], ...] = (
    (domain.NotAnImageError, _Kind(400, _INVALID, "not_an_image", _MESSAGES)),
    (domain.ImageTooLargeError, _Kind(400, _INVALID, "image_too_large", _MESSAGES)),
    (domain.ImageTooCostlyError, _Kind(400, _INVALID, "image_too_costly", _MESSAGES)),
    (domain.ImageUrlError, _Kind(400, _INVALID, "invalid_image_url", _MESSAGES)),
    (domain.ImageForbiddenError, _Kind(400, _INVALID, "image_forbidden", _MESSAGES)),
    (domain.ImageUnreachableError, _Kind(400, _INVALID, "image_unreachable", _MESSAGES)),
    (domain.ImageTimeoutError, _Kind(400, _INVALID, "image_timeout", _MESSAGES)),
    (domain.ImageStatusError, _Kind(400, _INVALID, "image_http_status", _MESSAGES)),
    (domain.ImageError, _Kind(400, _INVALID, "invalid_image", _MESSAGES)),
    (domain.PromptTooLongError, _Kind(400, _INVALID, "context_length_exceeded", _MESSAGES)),
    (domain.ToolError, _Kind(400, _INVALID, "invalid_tools", "tools")),
    (domain.ToolChoiceError, _Kind(400, _INVALID, "invalid_tool_choice", "tool_choice")),
    (domain.ProcessorSettingsError, _Kind(400, _INVALID, "invalid_value", "mm_processor_kwargs")),
    (domain.PromptError, _Kind(400, _INVALID, "invalid_prompt", _MESSAGES)),
    (domain.RequestError, _Kind(400, _INVALID, "invalid_value")),
    # At run time only a template can be misconfigured, one that came with the request.
    (domain.ConfigError, _Kind(400, _INVALID, "invalid_value", "chat_template")),
    (UnauthorizedError, _Kind(401, _INVALID, "invalid_api_key")),
    (UnknownModelError, _Kind(404, _INVALID, "model_not_found", "model")),
    (NotFoundError, _Kind(404, _INVALID, "not_found")),
    (domain.UnreadAnswerError, _Kind(408, "timeout_error", "answer_unread")),
    (BodyTimeoutError, _Kind(408, "timeout_error", "body_timeout")),
    (BodyEncodingError, _Kind(415, _INVALID, "unsupported_content_encoding")),
    (BodyTooLargeError, _Kind(413, _INVALID, "body_too_large")),
    (HeadersTooLargeError, _Kind(431, _INVALID, "headers_too_large")),
    (domain.QueueFullError, _Kind(429, "rate_limit_error", "queue_full")),
    (domain.EngineDeadError, _Kind(503, "service_unavailable_error", "engine_unavailable")),
    (domain.EngineClosedError, _Kind(503, "service_unavailable_error", "shutting_down")),
    (TooManyConnectionsError, _Kind(503, "service_unavailable_error", "too_many_connections")),
    (LogprobMemoryError, _Kind(503, "service_unavailable_error", "too_many_logprobs")),
    (domain.WorkerError, _Kind(503, "service_unavailable_error", "workers_unavailable")),
    (RequestTimeoutError, _Kind(504, "timeout_error", "request_timeout")),
    (domain.StepError, _Kind(500, "server_error", "step_failed")),
)

_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    413: {"Connection": "close"},  # what is left of the body is not read
    429: {"Retry-After": "1"},
    503: {"Retry-After": "5"},
}

_FRAMEWORK = {
    404: ("There is no such path here; GET /openapi.json lists what there is.", "path_not_found"),
    405: ("This path does not take that method; the Allow header lists those it takes.", "method_not_allowed"),
}


class ErrorForm(Protocol):
    """The type of an API's errors; ErrorBody is one."""

    def of(self, detail: ErrorDetail, status: int) -> msgspec.Struct:
        """What is written for an error that has, or would have, an HTTP status."""


class ErrorResponse(Response):
    """Says what went wrong, to the client and to the request's note."""

    def __init__(self, status: int, body: ErrorBody, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._detail = body.error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = self._detail
        if detail.param == _MESSAGES:
            detail = msgspec.structs.replace(detail, param=scope["state"].get("prompt_field", _MESSAGES))
        note_error(scope, detail)
        body = msgspec.json.encode(written_error(scope, detail, self.status_code))
        headers = {**self.headers, "content-length": str(len(body))}
        await Response(body, self.status_code, headers, "application/json")(scope, receive, send)


def written_error(scope: Scope, detail: ErrorDetail, status: int) -> msgspec.Struct:
    """The error in the form of the API whose path was asked."""
    form: ErrorForm = scope["state"].get("error_form", ErrorBody)
    return form.of(detail, status)


def name_prompt(request: Request, field: str) -> None:
    """Have errors about the prompt name this field of the request, in place of `messages`."""
    request.state.prompt_field = field


def error_response(error: Exception) -> ErrorResponse:
    """The response that says what went wrong; one that nobody foresaw is logged and becomes a 500 without details."""
    return ErrorResponse(*describe(error))


def note_error(scope: Scope, detail: ErrorDetail) -> None:
    """Let the log say why a request was not answered."""
    note = note_of(scope)
    note.error_code, note.error_param = detail.code or detail.type, detail.param


def describe(error: Exception) -> tuple[int, ErrorBody, dict[str, str]]:
    """Status, body and headers for an error."""
    if isinstance(error, HTTPException):
        message, code = _FRAMEWORK.get(error.status_code, ("The server cannot answer this request.", None))
        body = ErrorBody(ErrorDetail(message, _INVALID, None, code))
        return error.status_code, body, dict(error.headers or {})
    kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), None)
    if kind is None:
        _logger.error("A request failed for a reason that nobody foresaw", exc_info=error)
        detail = ErrorDetail("The server failed on this request; its log says why.", "server_error", None, None)
        return 500, ErrorBody(detail), {}
    param, code = kind.param, kind.code
    if isinstance(error, InvalidRequestError):
        param, code = error.param, error.code or code
    elif isinstance(error, domain.SamplingParamsError):
        param = str(error).split(" ", 1)[0]  # its sentences begin with the field
    message, param = shortened(str(error), _MAX_MESSAGE_CHARS), param and shortened(param, _MAX_PARAM_CHARS)
    return kind.status, ErrorBody(ErrorDetail(message, kind.type, param, code)), dict(_HEADERS.get(kind.status, {}))


def shortened(text: str, max_chars: int) -> str:
    """Without its middle, where it is too long."""
    return text if len(text) <= max_chars else text[: max_chars // 2] + " ... " + text[-max_chars // 2 :]

"""The form that a request wants its answers in, by any of the names that clients know for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.requests import GenerationFields, ResponseFormat
from aphrodite.domain.errors import FormError, SamplingParamsError
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

_OWN = "structured_outputs"
_GUIDED = ("json", "regex", "choice", "grammar")


def form_of(request: GenerationFields) -> StructuredOutputs | None:
    """None for free text. Raises InvalidRequestError, which names the field."""
    given = dict(_given(request))
    if not given:
        return None
    if len(given) > 1:
        first, second, *_ = given
        raise InvalidRequestError(f"{second} cannot be given beside {first}: an answer has one form.", second)
    with naming_form(request):
        return StructuredOutputs(**next(iter(given.values())))


@contextmanager
def naming_form(request: GenerationFields) -> Iterator[None]:
    """Have errors about the form name the request's own field."""
    try:
        yield
    except SamplingParamsError as error:
        sentence = str(error)
        name, _, rest = sentence.partition(" ")
        given = list(dict(_given(request)))
        if not name.startswith(_OWN) or not given:  # forced calls have a form, too
            raise
        [field] = given
        own = _field_name(field, request.response_format, name.removeprefix(f"{_OWN}.").rstrip(":"))
        code = "invalid_form" if isinstance(error, FormError) else "invalid_value"
        raise InvalidRequestError(f"{own} {rest}", own, code) from error


def _given(request: GenerationFields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Field by field, what a StructuredOutputs is to be made of."""
    if request.response_format is not None and (form := _response_format(request.response_format)):
        yield "response_format", form
    if request.structured_outputs is not None:
        yield _OWN, {name: getattr(request.structured_outputs, name) for name in StructuredOutputs.__slots__}
    for kind in _GUIDED:
        if (value := getattr(request, f"guided_{kind}")) is not None:
            yield f"guided_{kind}", {kind: value}


def _response_format(asked: ResponseFormat) -> dict[str, Any]:
    if asked.type == "json_object":
        return {"json_object": True}
    if asked.type == "json_schema":
        if asked.json_schema is None:
            raise InvalidRequestError("response_format.json_schema is missing.", "response_format.json_schema")
        # OpenAI's reference lets the schema away: any JSON object then.
        schema = asked.json_schema.schema
        return {"json_object": True} if schema is None else {"json": schema}
    if asked.type == "structural_tag":
        return {"structural_tag": {"structures": asked.structures, "triggers": asked.triggers}}
    return {}


def _field_name(field: str, response_format: ResponseFormat | None, kind: str) -> str:
    """`structured_outputs.json` as the request has it."""
    if field == _OWN:
        return _OWN if kind == _OWN else f"{_OWN}.{kind}"
    if field == "response_format" and response_format is not None and response_format.type == "json_schema":
        return "response_format.json_schema.schema"
    return field

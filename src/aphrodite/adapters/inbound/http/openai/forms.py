"""The form that a request wants its answers in, by any of the names that clients know for it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import OWN, renaming_form
from aphrodite.adapters.inbound.http.openai.requests import GenerationFields, ResponseFormat
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

_GUIDED = ("json", "regex", "choice", "grammar")


def form_of(request: GenerationFields) -> StructuredOutputs | None:
    """None for free text. Raises InvalidRequestError, which names the field."""
    given = dict(_given(request))
    if not given:
        return None
    with naming_form(request):
        (first, form), *others = [(name, StructuredOutputs(**fields)) for name, fields in given.items()]
    for second, other in others:
        if other != form:  # clients that know older servers send the same under two names
            raise InvalidRequestError(f"{second} cannot be given beside {first}: an answer has one form.", second)
    return form


def naming_form(request: GenerationFields) -> AbstractContextManager[None]:
    """Have errors about the form name the request's own field."""

    def rename(own: str) -> str | None:
        given = list(dict(_given(request)))
        if not given:  # forced calls have a form, too
            return None
        return _field_name(given[0], request.response_format, own.removeprefix(f"{OWN}."))

    return renaming_form(rename)


def _given(request: GenerationFields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Field by field, what a StructuredOutputs is to be made of."""
    if request.response_format is not None and (form := _response_format(request.response_format)):
        yield "response_format", form
    if request.structured_outputs is not None:
        yield OWN, {name: getattr(request.structured_outputs, name) for name in StructuredOutputs.__slots__}
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
    if field == OWN:
        return OWN if kind == OWN else f"{OWN}.{kind}"
    if field == "response_format" and response_format is not None and response_format.type == "json_schema":
        return "response_format.json_schema.schema"
    return field

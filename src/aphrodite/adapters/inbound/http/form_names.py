"""Errors about the form of an answer, under the name that a request's API has for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.domain.errors import FormError, SamplingParamsError

_OWN = "structured_outputs"


@contextmanager
def naming_form(field: str) -> Iterator[None]:
    """`field` is what the request has the form in. Raises InvalidRequestError."""
    try:
        yield
    except SamplingParamsError as error:
        name, _, rest = str(error).partition(" ")
        if not name.startswith(_OWN):
            raise
        code = "invalid_form" if isinstance(error, FormError) else "invalid_value"
        raise InvalidRequestError(f"{field} {rest}", field, code) from error

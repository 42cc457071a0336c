"""Errors about the form of an answer, under the name that a request has for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.domain.errors import FormError, SamplingParamsError

OWN = "structured_outputs"


def naming_form(field: str) -> AbstractContextManager[None]:
    """`field` is what the request has the form in. Raises InvalidRequestError."""
    return renaming_form(lambda _: field)


@contextmanager
def renaming_form(rename: Callable[[str], str | None]) -> Iterator[None]:
    """`rename` makes of `structured_outputs.json`, say, the request's own name; None: the form is not the request's.

    Raises InvalidRequestError.
    """
    try:
        yield
    except SamplingParamsError as error:
        name, _, rest = str(error).partition(" ")
        field = rename(name.rstrip(":")) if name.startswith(OWN) else None
        if field is None:
            raise
        code = "invalid_form" if isinstance(error, FormError) else "invalid_value"
        raise InvalidRequestError(f"{field} {rest}", field, code) from error

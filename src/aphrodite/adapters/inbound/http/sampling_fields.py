"""The table of sampling parameters as fields of requests, under an API's own names."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct, defstruct

from aphrodite.domain.prompting.parameter import Parameter
from aphrodite.domain.prompting.sampling_params import PARAMETERS

_LARGEST = 2**31 - 1  # integer, where the table knows no bound
_MOST = 2**63 - 1  # that msgspec takes

OPENAI = {
    name: parameter
    for name, parameter in PARAMETERS.items()
    if name not in ("max_tokens", "logprobs", "prompt_logprobs", "detokenize")  # these are each request's own
}
KOBOLD = {parameter.kobold: parameter for parameter in PARAMETERS.values() if parameter.kobold}
OLLAMA = {parameter.ollama: parameter for parameter in PARAMETERS.values() if parameter.ollama}


def struct_of(name: str, table: Mapping[str, Parameter]) -> type[Struct]:
    """A type with a field for each parameter, within its range; null is as good as nothing."""
    return defstruct(name, [(field, _kind(parameter) | None, None) for field, parameter in table.items()], kw_only=True)


def given(request: Struct, table: Mapping[str, Parameter]) -> dict[str, Any]:
    """What a request says, under our names."""
    return dict(_given(request, table))


def _given(request: Struct, table: Mapping[str, Parameter]) -> Iterator[tuple[str, Any]]:
    for name, parameter in table.items():
        value = getattr(request, name)
        if value is not None:
            yield parameter.name, value


def _kind(parameter: Parameter) -> Any:
    bounds = {"ge": parameter.low, "gt": parameter.above, "le": parameter.high}
    if parameter.type is int:
        bounds["le"] = _LARGEST if parameter.high is None else min(parameter.high, _MOST)
    meta: Any = Meta  # whose overloads know no bounds that may be None
    return Annotated[parameter.type, meta(description=parameter.meaning, **bounds)]

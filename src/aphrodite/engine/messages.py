"""What crosses between the engine's process and its client, and its way to frames and back.

A message is one frame of msgpack. A request with an image has a second one, the pixels as they lie in memory, which
is copied on neither side. Values of the domain go as they are: msgspec reads and writes dataclasses.
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import msgspec
import numpy as np

from aphrodite.domain import errors
from aphrodite.domain.errors import AphroditeError, GenerationError, SamplingParamsError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.prompts import ProcessedImage
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine.engine import EngineRequest

Frame = bytes | memoryview


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """To the engine: end a request with all its sequences."""

    request_id: str


class AbortSequence(msgspec.Struct, tag="abort_sequence", frozen=True):
    """To the engine: end one sequence of a request."""

    request_id: str
    index: int


class Shutdown(msgspec.Struct, tag="shutdown", frozen=True):
    """To the engine: abort what runs, give the hardware back and end the process."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """From the engine: requests are taken from now on."""

    limits: BackendLimits


class StepDone(msgspec.Struct, tag="step", frozen=True):
    """From the engine: all that one step brought, and how the engine is after it."""

    deltas: list[SequenceDelta]
    stats: EngineStats


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """From the engine: a request that it does not take."""

    request_id: str
    error: AphroditeError


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """From the engine, its last message: it could not be built, or it broke."""

    error: AphroditeError


EngineMessage = Ready | StepDone | Refused | Failed


class _Image(msgspec.Struct, frozen=True):
    """A ProcessedImage without its pixels."""

    shape: tuple[int, int, int]
    content_hash: bytes
    start: int
    num_tokens: int


class _Add(msgspec.Struct, tag="add", frozen=True):
    """An EngineRequest."""

    request_id: str
    prompt_token_ids: list[int]
    sampling: dict[str, Any]  # what differs from the defaults
    image: _Image | None


class _Error(msgspec.Struct, frozen=True):
    """An AphroditeError: the name of its type, and its sentence."""

    type: str
    sentence: str


# GenerationError holds outputs, and is made on the side of the user only.
_ERROR_TYPES: dict[str, type[AphroditeError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, AphroditeError) and value is not GenerationError
}
# The engine knows tokens only; these are about text.
_TEXT_FIELDS = frozenset({"stop", "include_stop_str_in_output", "skip_special_tokens", "detokenize"})
_SAMPLING_DEFAULTS: dict[str, Any] = {
    field.name: field.default if field.default_factory is MISSING else field.default_factory()
    for field in fields(SamplingParams)
    if field.name not in _TEXT_FIELDS
}


def encode_for_engine(message: EngineRequest | Abort | AbortSequence | Shutdown) -> list[Frame]:
    """Raises SamplingParamsError for a number that is too large to be sent."""
    if not isinstance(message, EngineRequest):
        return [_encoder.encode(message)]
    image, frames = None, []
    if message.image is not None:
        pixels = np.ascontiguousarray(message.image.pixels)
        image = _Image(pixels.shape, message.image.content_hash, message.image.start, message.image.num_tokens)
        frames.append(pixels.data)
    sampling = _sampling_to_fields(message.sampling)
    try:
        header = _encoder.encode(_Add(message.request_id, message.prompt_token_ids, sampling, image))
    except OverflowError as error:
        raise SamplingParamsError("A sampling parameter is too large: integers must fit into 64 bits.") from error
    return [header, *frames]


def decode_for_engine(frames: Sequence[Frame]) -> EngineRequest | Abort | AbortSequence | Shutdown:
    """Raises msgspec.DecodeError for what `encode_for_engine` did not make. Pixels are a view of their frame."""
    message = _engine_decoder.decode(frames[0])
    if not isinstance(message, _Add):
        return message
    image = None
    if (header := message.image) is not None:
        pixels = np.frombuffer(frames[1], dtype=np.uint8).reshape(header.shape)
        image = ProcessedImage(pixels, header.content_hash, header.start, header.num_tokens)
    return EngineRequest(message.request_id, message.prompt_token_ids, SamplingParams(**message.sampling), image)


def encode_for_client(message: EngineMessage) -> bytes:
    return _encoder.encode(message)


def decode_for_client(frame: Frame) -> EngineMessage:
    """Raises msgspec.DecodeError for what `encode_for_client` did not make."""
    return _client_decoder.decode(frame)


def _sampling_to_fields(sampling: SamplingParams) -> dict[str, Any]:
    given = {name: getattr(sampling, name) for name in _SAMPLING_DEFAULTS}
    return {name: value for name, value in given.items() if value != _SAMPLING_DEFAULTS[name]}


def _to_plain(value: object) -> object:
    """What msgspec does not know by itself."""
    if isinstance(value, AphroditeError):
        # A type of some backend's own goes as the nearest one that both sides know.
        name = next(base.__name__ for base in type(value).__mro__ if base in _ERROR_TYPES.values())
        return _Error(name, str(value))
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} cannot be sent.")


def _from_plain(expected: type, value: Any) -> object:
    if expected is AphroditeError:
        error = msgspec.convert(value, _Error)
        return _ERROR_TYPES[error.type](error.sentence)
    raise NotImplementedError(f"{expected.__name__} cannot be received.")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_engine_decoder: msgspec.msgpack.Decoder[_Add | Abort | AbortSequence | Shutdown] = msgspec.msgpack.Decoder(
    _Add | Abort | AbortSequence | Shutdown, dec_hook=_from_plain
)
_client_decoder: msgspec.msgpack.Decoder[EngineMessage] = msgspec.msgpack.Decoder(EngineMessage, dec_hook=_from_plain)

"""What crosses between the engine's process and its client, and its way to frames and back.

A message is one frame of msgpack. A request has another one for each of its images, the patches as they lie in memory,
which are copied on neither side. Values of the domain go as they are: msgspec reads and writes dataclasses.
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import msgspec
import numpy as np

from aphrodite.domain import errors
from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan, PatchPlan
from aphrodite.domain.errors import AphroditeError, GenerationError, SamplingParamsError
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.request import Owner
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
    longest_step_s: float  # what a step of the most tokens takes, by the measure of a shorter one


class Heartbeat(msgspec.Struct, tag="heartbeat", frozen=True):
    """From the engine: it lives, and has nothing else to say; sent between steps and while it waits for requests."""


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


EngineMessage = Ready | Heartbeat | StepDone | Refused | Failed


class _Span(msgspec.Struct, frozen=True):
    """An ImageSpan without its image's patches."""

    start: int
    is_feature: bytes  # bool [tokens]
    content_hash: bytes
    segments: bytes  # int32 [segments]
    taps: bytes  # int32 [features], with weights [features, K]
    tap_weights: bytes | None  # float32 [features, K]
    taps_per_feature: int  # K, 1 without weights
    coordinates: bytes | None  # int32 [patches, 2]
    windows: bytes | None  # int32 [windows]
    position_taps: bytes | None  # int32 [patches, K]
    position_weights: bytes | None  # float32 [patches, K]
    taps_per_position: int  # K, 1 without
    patch_bytes: int
    grid: tuple[int, int] | None
    sees_forward: bool


class _Add(msgspec.Struct, tag="add", frozen=True):
    """An EngineRequest."""

    request_id: str
    prompt_token_ids: list[int]
    sampling: dict[str, Any]  # what differs from the defaults
    images: list[_Span]
    owner: Owner
    priority: int


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
    patches = [np.ascontiguousarray(span.image.patches) for span in message.images]
    sampling = _sampling_to_fields(message.sampling)
    try:
        spans = [_span_header(span) for span in message.images]
        header = _encoder.encode(
            _Add(message.request_id, message.prompt_token_ids, sampling, spans, message.owner, message.priority)
        )
    except OverflowError as error:
        raise SamplingParamsError("A sampling parameter is too large: integers must fit into 64 bits.") from error
    return [header, *(patch.data for patch in patches)]


def decode_for_engine(frames: Sequence[Frame]) -> EngineRequest | Abort | AbortSequence | Shutdown:
    """Raises msgspec.DecodeError for what `encode_for_engine` did not make. Patches are a view of their frame."""
    message = _engine_decoder.decode(frames[0])
    if not isinstance(message, _Add):
        return message
    images = tuple(_span(header, frame) for header, frame in zip(message.images, frames[1:], strict=True))
    sampling = SamplingParams(**_with_form(message.sampling))
    return EngineRequest(
        message.request_id, message.prompt_token_ids, sampling, images, message.owner, message.priority
    )


def encode_for_client(message: EngineMessage) -> bytes:
    return _encoder.encode(message)


def decode_for_client(frame: Frame) -> EngineMessage:
    """Raises msgspec.DecodeError for what `encode_for_client` did not make."""
    return _client_decoder.decode(frame)


def _span_header(span: ImageSpan) -> _Span:
    image, plan = span.image, span.image.plan
    return _Span(
        start=span.start,
        is_feature=span.is_feature.tobytes(),
        content_hash=image.content_hash,
        segments=plan.segments.tobytes(),
        taps=plan.taps.tobytes(),
        tap_weights=_bytes(plan.tap_weights),
        taps_per_feature=1 if plan.tap_weights is None else plan.tap_weights.shape[1],
        coordinates=_bytes(plan.coordinates),
        windows=_bytes(plan.windows),
        position_taps=_bytes(plan.position_taps),
        position_weights=_bytes(plan.position_weights),
        taps_per_position=1 if plan.position_taps is None else plan.position_taps.shape[1],
        patch_bytes=image.patches.shape[1],
        grid=span.grid,
        sees_forward=span.sees_forward,
    )


def _span(header: _Span, frame: Frame) -> ImageSpan:
    patches = np.frombuffer(frame, dtype=np.uint8).reshape(-1, header.patch_bytes)
    of_feature = () if header.tap_weights is None else (header.taps_per_feature,)
    plan = PatchPlan(
        np.frombuffer(header.segments, np.int32),
        np.frombuffer(header.taps, np.int32).reshape(-1, *of_feature),
        _array(header.coordinates, np.int32, (-1, 2)),
        _array(header.windows, np.int32, (-1,)),
        _array(header.tap_weights, np.float32, (-1, *of_feature)),
        _array(header.position_taps, np.int32, (-1, header.taps_per_position)),
        _array(header.position_weights, np.float32, (-1, header.taps_per_position)),
    )
    image = ImageInput(patches, plan, header.content_hash)
    is_feature = np.frombuffer(header.is_feature, dtype=bool)
    return ImageSpan(image, header.start, is_feature, header.grid, header.sees_forward)


def _bytes(array: np.ndarray | None) -> bytes | None:
    return None if array is None else array.tobytes()


def _array(data: bytes | None, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray | None:
    return None if data is None else np.frombuffer(data, dtype).reshape(shape)


def _sampling_to_fields(sampling: SamplingParams) -> dict[str, Any]:
    given = {name: getattr(sampling, name) for name in _SAMPLING_DEFAULTS}
    return {name: value for name, value in given.items() if value != _SAMPLING_DEFAULTS[name]}


def _with_form(sampling: dict[str, Any]) -> dict[str, Any]:
    form = sampling.get("structured_outputs")
    return sampling if form is None else sampling | {"structured_outputs": StructuredOutputs(**form)}


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

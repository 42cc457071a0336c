"""Whatever crosses between the processes arrives as it was sent."""

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import fake_span

from aphrodite.domain import errors
from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan, PatchPlan
from aphrodite.domain.errors import AphroditeError, GenerationError, SamplingParamsError, StepError
from aphrodite.domain.generation.delta import SequenceDelta, TokenReport
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.request import Owner
from aphrodite.domain.scheduling.stats import EngineStats
from aphrodite.engine.engine import EngineRequest
from aphrodite.engine.messages import (
    Abort,
    AbortSequence,
    EngineMessage,
    Failed,
    Frame,
    Ready,
    Refused,
    Shutdown,
    StepDone,
    decode_for_client,
    decode_for_engine,
    encode_for_client,
    encode_for_engine,
)

TOKEN = st.integers(0, 2**31 - 1)
COUNT = st.integers(0, 2**40)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBER = st.floats(allow_nan=False)
ERROR_TYPES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, AphroditeError) and value is not GenerationError
]
ERRORS = st.builds(lambda kind, sentence: kind(sentence), st.sampled_from(ERROR_TYPES), TEXT)
RANKED = st.dictionaries(TOKEN, st.tuples(st.floats(max_value=0.0), COUNT), max_size=3)
DELTAS = st.builds(
    SequenceDelta,
    request_id=TEXT,
    index=COUNT,
    token_ids=st.lists(TOKEN, max_size=3),
    report=st.none() | st.builds(TokenReport, st.none() | RANKED, COUNT, st.lists(RANKED, max_size=2).map(tuple)),
    finish_reason=st.sampled_from([None, "stop", "length", "abort"]),
    stop_reason=st.none() | TOKEN | TEXT,
    error=st.none() | ERRORS,
    num_cached_tokens=st.integers(-1, 10**6),
    first_scheduled_s=st.none() | NUMBER,
)
STATS = st.builds(EngineStats, COUNT, COUNT, NUMBER, NUMBER, COUNT, COUNT, COUNT, COUNT)
SOME_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
FORMS = st.one_of(
    st.builds(StructuredOutputs, json=st.dictionaries(TEXT, COUNT)),
    st.builds(StructuredOutputs, regex=SOME_TEXT),
    st.builds(StructuredOutputs, choice=st.lists(SOME_TEXT, min_size=1)),
    st.just(StructuredOutputs(json_object=True)),
)
FROM_ENGINE = st.one_of(
    st.builds(Ready, st.builds(BackendLimits, *[COUNT] * 8), NUMBER),
    st.builds(StepDone, st.lists(DELTAS, max_size=3), STATS),
    st.builds(Refused, TEXT, ERRORS),
    st.builds(Failed, ERRORS),
)


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    values: dict[str, Any] = {
        "n": st.integers(1, 100),
        "temperature": st.floats(0, 100) | st.integers(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(-1, 1000),
        "min_p": st.floats(0, 1),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.1, 10),
        "seed": st.none() | st.integers(-(2**63), 2**64 - 1),
        "stop_token_ids": st.lists(TOKEN, max_size=3),
        "ignore_eos": st.booleans(),
        "max_tokens": st.none() | st.integers(1000, 2000),
        "min_tokens": st.integers(0, 256),
        "logprobs": st.none() | st.integers(0, 20),
        "prompt_logprobs": st.none() | st.integers(0, 20),
        "logit_bias": st.dictionaries(TOKEN, st.floats(-100, 100), max_size=3),
        "allowed_token_ids": st.none() | st.lists(TOKEN, min_size=1, max_size=3),
        "stop": st.lists(st.text(min_size=1, max_size=5), max_size=2),
        "include_stop_str_in_output": st.booleans(),
        "skip_special_tokens": st.booleans(),
        "structured_outputs": st.none() | FORMS,
        "typical_p": st.floats(0, 1),
        "temperature_last": st.booleans(),
        "sampler_priority": st.none() | st.lists(st.sampled_from(["top_p", "xtc", 5, "QUADRATIC"]), max_size=3),
        "dry_multiplier": st.floats(0, 10),
        "dry_sequence_breakers": st.lists(TOKEN, max_size=3),
        "custom_token_bans": st.lists(TOKEN, max_size=3),
        "bad_words": st.lists(st.lists(TOKEN, min_size=1, max_size=3), max_size=3),
    }
    names = draw(st.sets(st.sampled_from(sorted(values))))
    if "structured_outputs" in names:
        names.discard("allowed_token_ids")
    if names & {"structured_outputs", "allowed_token_ids"}:
        names -= {"custom_token_bans", "bad_words"}
    return SamplingParams(**{name: draw(values[name]) for name in names})


@st.composite
def spans(draw: st.DrawFn) -> ImageSpan:
    rng = np.random.default_rng(draw(COUNT))
    patches = rng.integers(0, 256, (draw(st.integers(0, 5)), draw(st.integers(1, 5))), dtype=np.uint8)
    if draw(st.booleans()):
        patches = patches[::-1]  # not as it lies in memory
    some = st.none() | st.integers(0, 5)
    sizes = [draw(st.integers(0, 5)), draw(st.integers(0, 5)), draw(some), draw(some)]
    segments, taps, coordinates, windows = (
        None if size is None else rng.integers(0, 99, (size, 2) if place == 2 else size, dtype=np.int32)
        for place, size in enumerate(sizes)
    )
    assert segments is not None
    assert taps is not None
    weights = None
    if draw(st.booleans()):
        taps = rng.integers(0, 99, (len(taps), 4), dtype=np.int32)
        weights = rng.random(taps.shape, np.float32)
    positions = None
    if draw(st.booleans()):
        positions = rng.integers(0, 99, (draw(st.integers(0, 5)), draw(st.sampled_from((4, 16)))), dtype=np.int32)
    position_weights = None if positions is None else rng.random(positions.shape, np.float32)
    plan = PatchPlan(segments, taps, coordinates, windows, weights, positions, position_weights)
    is_feature = rng.integers(0, 2, draw(st.integers(0, 6))).astype(bool)
    return ImageSpan(
        ImageInput(patches, plan, draw(st.binary(max_size=16))),
        draw(COUNT),
        is_feature,
        draw(st.none() | st.tuples(COUNT, COUNT)),
        draw(st.booleans()),
    )


def sent(message: EngineRequest | Abort | AbortSequence | Shutdown) -> EngineRequest | Abort | AbortSequence | Shutdown:
    frames: list[Frame] = [memoryview(bytes(frame)) for frame in encode_for_engine(message)]
    return decode_for_engine(frames)


def plain(error: AphroditeError | None) -> tuple[type, str] | None:
    """Errors are equal by identity only."""
    return None if error is None else (type(error), str(error))


@given(
    TEXT,
    st.lists(TOKEN, max_size=20),
    samplings(),
    st.lists(spans(), max_size=3),
    st.builds(Owner, TEXT, TEXT),
    st.integers(-(2**31), 2**31 - 1),
)
def test_requests_arrive_as_they_were(
    request_id: str,
    token_ids: list[int],
    sampling: SamplingParams,
    images: list[ImageSpan],
    owner: Owner,
    priority: int,
) -> None:
    received = sent(EngineRequest(request_id, token_ids, sampling, tuple(images), owner, priority))
    assert isinstance(received, EngineRequest)
    assert (received.owner, received.priority) == (owner, priority)
    assert (received.request_id, received.prompt_token_ids) == (request_id, token_ids)
    # All but what concerns text, which the engine knows nothing of.
    text = {"stop": (), "include_stop_str_in_output": False, "skip_special_tokens": True}
    assert received.sampling == replace(sampling, **text)
    for got, span in zip(received.images, images, strict=True):
        assert (got.start, got.grid, got.image.content_hash) == (span.start, span.grid, span.image.content_hash)
        ours_plan, theirs_plan = got.image.plan, span.image.plan
        for ours, theirs in (
            (got.is_feature, span.is_feature),
            (got.image.patches, span.image.patches),
            (ours_plan.segments, theirs_plan.segments),
            (ours_plan.taps, theirs_plan.taps),
            (ours_plan.coordinates, theirs_plan.coordinates),
            (ours_plan.windows, theirs_plan.windows),
            (ours_plan.tap_weights, theirs_plan.tap_weights),
            (ours_plan.position_taps, theirs_plan.position_taps),
            (ours_plan.position_weights, theirs_plan.position_weights),
        ):
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype


@given(FROM_ENGINE)
def test_what_the_engine_says_arrives_as_it_was(message: EngineMessage) -> None:
    received = decode_for_client(encode_for_client(message))
    assert type(received) is type(message)
    if isinstance(message, StepDone):
        assert isinstance(received, StepDone)
        assert received.stats == message.stats
        assert len(received.deltas) == len(message.deltas)
        for got, expected in zip(received.deltas, message.deltas, strict=True):
            assert plain(got.error) == plain(expected.error)
            assert msgspec.structs.replace(got, error=None) == msgspec.structs.replace(expected, error=None)
    elif isinstance(message, Ready):
        assert received == message
    else:
        assert isinstance(received, Refused | Failed)
        assert plain(received.error) == plain(message.error)
        assert getattr(received, "request_id", None) == getattr(message, "request_id", None)


@pytest.mark.parametrize("message", [Abort("r"), AbortSequence("r", 3), Shutdown()])
def test_orders_arrive(message: Abort | AbortSequence | Shutdown) -> None:
    assert sent(message) == message


def test_infinite_logprobs_arrive() -> None:
    delta = SequenceDelta("r", 0, [1], TokenReport({1: (-math.inf, 1)}))
    received = decode_for_client(encode_for_client(StepDone([delta], EngineStats())))
    assert isinstance(received, StepDone)
    assert received.deltas == [delta]


def test_patches_are_copied_on_neither_side() -> None:
    image = fake_span(b"hash", start=0, num_tokens=1).image
    patches = np.zeros((4, 12), dtype=np.uint8)
    span = ImageSpan(replace(image, patches=patches), 0, np.ones(1, bool))
    request = EngineRequest("r", [1], SamplingParams(), (span, span))
    frames = encode_for_engine(request)
    received = decode_for_engine(frames)
    patches[0, 0] = 200
    assert isinstance(received, EngineRequest)
    assert all(np.shares_memory(got.image.patches, patches) for got in received.images)
    assert len(frames) == 3


def test_numpy_numbers_are_numbers() -> None:
    received = sent(EngineRequest("r", list(np.array([1, 2])), SamplingParams(temperature=np.float64(0.5))))
    assert received == EngineRequest("r", [1, 2], SamplingParams(temperature=0.5))


def test_a_number_too_large_to_be_sent_is_the_requests_fault() -> None:
    with pytest.raises(SamplingParamsError, match="too large: integers must fit into 64 bits"):
        encode_for_engine(EngineRequest("r", [1], SamplingParams(max_tokens=2**64)))


def test_an_error_of_a_backends_own_arrives_as_the_nearest_that_is_known() -> None:
    class FuseBlownError(StepError):
        pass

    received = decode_for_client(encode_for_client(Failed(FuseBlownError("The fuse is blown."))))
    assert isinstance(received, Failed)
    assert plain(received.error) == (StepError, "The fuse is blown.")


@given(st.binary(max_size=50))
def test_bytes_that_are_no_message_are_refused_with_one_kind_of_error(data: bytes) -> None:
    for decode in (decode_for_client, lambda frame: decode_for_engine([frame])):
        with pytest.raises(msgspec.DecodeError):
            decode(data)

"""What the engine's process makes of requests, in text."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from copy import copy

from aphrodite.domain.generation.assembler import RequestAssembler, TextDelta
from aphrodite.domain.generation.delta import SequenceDelta
from aphrodite.domain.ports import Clock
from aphrodite.engine.client import EngineClient
from aphrodite.engine.engine import EngineRequest


async def answers(
    client: EngineClient, requests: Sequence[EngineRequest], assemblers: Sequence[RequestAssembler], clock: Clock
) -> AsyncGenerator[tuple[int, SequenceDelta, TextDelta | None], None]:
    """Have requests of one owner answered, each with its assembler: whose delta, itself, and what it adds to the text.

    A sequence ends at its stop strings. Iterate under `contextlib.aclosing`. Raises as `EngineClient.submit` does, and
    StepError.
    """
    places = {request.request_id: place for place, request in enumerate(requests)}
    async with aclosing(client.submit(*requests)) as deltas:
        async for delta in deltas:
            place = places[delta.request_id]
            text = assemblers[place].push(delta, clock.now_s())
            if (error := assemblers[place].error) is not None:
                raise copy(error)  # what is raised holds all that it passes by, and the assembler holds its own
            if text is not None and text.abort:
                client.abort_sequence(delta.request_id, delta.index)
            yield place, delta, text

"""The requests that the engine works on, each with its sequences."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aphrodite.domain.generation.stopping import StopChecker
from aphrodite.domain.scheduling.request import Request

if TYPE_CHECKING:
    from aphrodite.engine.engine import EngineRequest


@dataclass(slots=True, eq=False)
class Sequence:
    """One of a prompt's completions while the engine works on it."""

    request: Request
    group: "Group"
    index: int
    stop: StopChecker
    first_scheduled_s: float | None = None

    @property
    def request_id(self) -> str:
        return self.group.request_id


@dataclass(slots=True, eq=False)
class Group:
    """A prompt and its completions."""

    request_id: str
    sequences: list[Sequence] = field(default_factory=list)


class Sequences:
    """Books of what is not finished."""

    def __init__(self, *, max_model_len: int, eos_token_ids: frozenset[int], seed: int, is_prefix_masked: bool) -> None:
        self._max_model_len = max_model_len
        self._eos_token_ids = eos_token_ids
        self._seed = seed
        self._is_prefix_masked = is_prefix_masked  # whether prompts' tokens see each other, those behind them as well
        self._num_added = 0
        self._groups: dict[str, Group] = {}
        self._sequences: dict[Request, Sequence] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, request: Request) -> bool:
        return request in self._sequences

    def __getitem__(self, request: Request) -> Sequence:
        return self._sequences[request]

    @property
    def request_ids(self) -> list[str]:
        return list(self._groups)

    def of(self, request_id: str) -> list[Sequence]:
        """Those of one request that are not finished."""
        group = self._groups.get(request_id)
        return list(group.sequences) if group else []

    def add(self, request: "EngineRequest") -> Group:
        """As many sequences as the request asks for."""
        group = self._groups[request.request_id] = Group(request.request_id)
        for index in range(request.sampling.n):
            sequence = self._sequence(group, request, index)
            group.sequences.append(sequence)
            self._sequences[sequence.request] = sequence
        self._num_added += 1
        return group

    def drop(self, sequence: Sequence) -> None:
        group = sequence.group
        del self._sequences[sequence.request]
        group.sequences.remove(sequence)
        if not group.sequences:
            del self._groups[group.request_id]

    def _sequence(self, group: Group, request: "EngineRequest", index: int) -> Sequence:
        sampling, num_prompt_tokens, limit = request.sampling, len(request.prompt_token_ids), self._max_model_len
        seed = sampling.seed if sampling.seed is not None else hash((self._seed, self._num_added))
        ends = sampling.stop_token_ids if sampling.ignore_eos else (*self._eos_token_ids, *sampling.stop_token_ids)
        scheduled = Request(
            f"{request.request_id}/{index}",
            request.prompt_token_ids,
            sampling,
            # Completion 1 of one seed must not draw as completion 0 of another.
            seed=(hash((seed, index)) if index else seed) % 2**64,
            order=(self._num_added, index),
            max_total_tokens=min(limit, num_prompt_tokens + (sampling.max_tokens or limit)),
            stop_token_ids=tuple(ends) if sampling.structured_outputs is None else (),  # else the form says when
            images=request.images,
            owner=request.owner,
            priority=request.priority,
            is_prefix_masked=self._is_prefix_masked,
        )
        return Sequence(scheduled, group, index, StopChecker(sampling, self._eos_token_ids, limit, num_prompt_tokens))

"""The sequences whose next token depends on those before it."""

from collections.abc import Set

import numpy as np

from aphrodite.domain.ports import Clock
from aphrodite.domain.scheduling.bias import BiasChanges, first_bias_of
from aphrodite.domain.scheduling.history import history_bias
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.step_builder import Schedule
from aphrodite.engine.host_turns import HostTurns


class Histories:
    """Knows of each what its slot's bias is by now, so that a step is told of what is different alone."""

    def __init__(self, clock: Clock, vocab_size: int) -> None:
        self._clock = clock
        self._vocab_size = vocab_size
        self._turns = HostTurns()
        self._known: dict[Request, dict[int, float]] = {}

    def begin(self, request: Request) -> None:
        if request.sampling.has_history:
            self._known[request] = {}

    def end(self, request: Request) -> None:
        self._known.pop(request, None)
        self._turns.end(request)

    def concern(self, schedule: Schedule) -> bool:
        """Whether the draw of a step must wait for `changes`."""
        return bool(self._known) and any(request in self._known for request in schedule.sampling)

    def resting(self) -> Set[Request]:
        """Who is not to go on in the next step, as what all histories come to would take too long to find out."""
        return self._turns.resting(self._known)

    def changes(self, schedule: Schedule) -> BiasChanges:
        """What is new for a step once all tokens before it are known."""
        slots: list[int] = []
        token_ids: list[int] = []
        values: list[float] = []  # of requests' own biases
        added: list[float] = []
        starting = set(schedule.prompting)  # their slots know nothing yet
        concerned = [request for request in schedule.sampling if request in self._known]
        began_s = self._clock.now_s()
        for request in concerned:
            known = {} if request in starting else self._known[request]
            wanted = history_bias(request.tokens[: request.num_tokens], request.sampling, self._vocab_size)
            both = known.keys() | wanted.keys()
            changed = [token_id for token_id in both if known.get(token_id, 0.0) != wanted.get(token_id, 0.0)]
            slots += [request.slot] * len(changed)
            token_ids += changed
            values += first_bias_of(request.sampling, changed)
            added += [wanted.get(token_id, 0.0) for token_id in changed]
            self._known[request] = wanted
        self._turns.note(concerned, self._clock.now_s() - began_s)
        biases = np.array(values, np.float32) + np.array(added, np.float32)
        return BiasChanges(np.array(slots, np.int32), np.array(token_ids, np.int32), biases)

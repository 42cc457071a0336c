"""How many sequences have work on the host in one step, and whose."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set

from aphrodite.domain.scheduling.request import Request

_MAX_STEP_S = 0.05  # of everybody's step
_UNBOUNDED = 1 << 16


class HostTurns:
    """Bounds how long a step waits until it is known what its sequences may draw.

    That takes microseconds for most, and tens of milliseconds for the form of a very ambiguous grammar, or a history
    that is one long repetition. So as many go on in a step as the last ones allow; the others rest. Clients take turns,
    and so do the sequences of each.
    """

    def __init__(self) -> None:
        self._num_at_once = _UNBOUNDED
        self._num_steps = 0
        self._last_steps: dict[Request, int] = {}  # in which a sequence went on

    def resting(self, concerned: Iterable[Request]) -> Set[Request]:
        """Of these sequences, those that have no row in the next step."""
        decoding = [request for request in concerned if request.slot_started]
        if len(decoding) <= self._num_at_once:
            return frozenset()
        decoding.sort(key=self._last_step)
        num_before: Counter[str] = Counter()  # of the same client
        ranked: list[tuple[int, int, int]] = []
        for index, request in enumerate(decoding):
            ranked.append((num_before[request.owner.client], self._last_step(request), index))
            num_before[request.owner.client] += 1
        return {decoding[index] for _, _, index in sorted(ranked)[self._num_at_once :]}

    def note(self, requests: Sequence[Request], duration_s: float) -> None:
        """It took so long to find out what these may draw, whose first tokens are not put off."""
        self._num_steps += 1
        decoding = [request for request in requests if request.num_output_tokens]
        self._last_steps |= dict.fromkeys(decoding, self._num_steps)
        if duration_s > _MAX_STEP_S:
            self._num_at_once = max(1, int(len(decoding) * _MAX_STEP_S / duration_s))
        elif len(decoding) >= self._num_at_once and duration_s < _MAX_STEP_S / 2:
            self._num_at_once = min(2 * self._num_at_once, _UNBOUNDED)

    def end(self, request: Request) -> None:
        self._last_steps.pop(request, None)

    def _last_step(self, request: Request) -> int:
        return self._last_steps.get(request, 0)

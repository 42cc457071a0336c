"""Where the sequences stand whose answers must have a form."""

from collections.abc import Set

import numpy as np

from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import Clock, Grammars, TokenMatcher
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens, bar, num_bit_words
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.step_builder import Schedule
from aphrodite.engine.host_turns import HostTurns


class Constraints:
    """A matcher for each constrained sequence, which goes on by the tokens that were drawn; preemption leaves it."""

    def __init__(self, grammars: Grammars, clock: Clock, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._grammars = grammars
        self._clock = clock
        self._num_words = num_bit_words(vocab_size)
        self._eos_token_ids = eos_token_ids
        self._matchers: dict[Request, TokenMatcher] = {}
        self._turns = HostTurns()

    def begin(self, request: Request, matcher: TokenMatcher) -> None:
        """`matcher` stands at the beginning, and may be another sequence's, too."""
        self._matchers[request] = matcher.copy()

    def end(self, request: Request) -> None:
        self._matchers.pop(request, None)
        self._turns.end(request)

    def concern(self, schedule: Schedule) -> bool:
        """Whether the draw of a step must wait for `allowed`."""
        return bool(self._matchers) and any(request in self._matchers for request in schedule.sampling)

    def resting(self) -> Set[Request]:
        """Who is not to go on in the next step, as what all may draw would take too long to find out."""
        return self._turns.resting(self._matchers)

    def ends_with(self, request: Request, token_id: int) -> bool:
        """Go on by a drawn token; whether the form is complete with it. Raises FormError."""
        matcher = self._matchers.get(request)
        if matcher is None:
            return False
        if token_id in self._eos_token_ids:
            return True
        matcher.advance(token_id)
        return False

    def allowed(self, schedule: Schedule) -> tuple[AllowedTokens, dict[Request, FormError]]:
        """What a step may draw once all tokens before it are known, and whose form cannot be followed any more."""
        constrained = [(at, request) for at, request in enumerate(schedule.sampling) if request in self._matchers]
        bits = np.empty((len(constrained), self._num_words), dtype=np.int32)
        began_s = self._clock.now_s()
        errors = self._grammars.fill([self._matchers[request] for _, request in constrained], bits)
        self._turns.note([request for _, request in constrained], self._clock.now_s() - began_s)
        barred: dict[tuple[int, ...], list[int]] = {}  # tokens to the rows that are not to take them
        for row, (_, request) in enumerate(constrained):
            barred.setdefault(self._barred(request), []).append(row)
        for token_ids, rows_without in barred.items():
            if token_ids:
                bits[rows_without] = bar(bits[rows_without], token_ids)
        samples = np.array([at for at, _ in constrained], dtype=np.int32)
        failed = {constrained[row][1]: error for row, error in errors.items()}
        rows = [row for row in range(len(constrained)) if row not in errors]
        return AllowedTokens(samples[rows], bits[rows]) if errors else AllowedTokens(samples, bits), failed

    def _barred(self, request: Request) -> tuple[int, ...]:
        """Ends that the sequence is not to take yet, or not at all, while its form leaves it anything else."""
        sampling = request.sampling
        if request.num_output_tokens < sampling.min_tokens:
            return (*self._eos_token_ids, *sampling.stop_token_ids)
        return tuple(self._eos_token_ids) if sampling.ignore_eos else ()

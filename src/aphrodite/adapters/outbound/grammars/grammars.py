"""llguidance behind the Grammars port. The library is loaded with the first form."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from aphrodite.adapters.outbound.grammars.complaints import form_error
from aphrodite.adapters.outbound.grammars.notation import grammar_of
from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import TokenMatcher
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

_MAX_THREADS = 8  # that fill bits
_MAX_ITEMS = 2000  # ways in which an answer may be read so far; the library's own bound
_MAX_ITEMS_OF_GRAMMAR = 128  # a client's own grammar may be ambiguous at every token, when the work is their cube
_MAX_LEXER_STATES = 50_000  # up to 2 kB each


@dataclass(frozen=True, slots=True)
class LlguidanceMatcher:
    """Implements `domain.ports.TokenMatcher`."""

    form: StructuredOutputs
    matcher: "LLMatcher"

    def advance(self, token_id: int) -> None:
        if not self.matcher.consume_token(token_id):
            raise form_error(self.form, self.matcher.get_error())

    def copy(self) -> "LlguidanceMatcher":
        return LlguidanceMatcher(self.form, self.matcher.deep_copy())


class LlguidanceGrammars:
    """Implements `domain.ports.Grammars` for a fast tokenizer."""

    def __init__(self, tokenizer_definition: str, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        """`tokenizer_definition` is what a tokenizer.json holds; `vocab_size` may exceed what is in it."""
        self._definition = tokenizer_definition
        self._vocab_size = vocab_size
        self._eos_token_ids = sorted(eos_token_ids)
        self._loading = threading.Lock()
        self._loaded: tuple[LLTokenizer, LLExecutor] | None = None

    def compile(self, form: StructuredOutputs) -> LlguidanceMatcher:
        from llguidance import LLMatcher, LLParserLimits

        grammar = grammar_of(form)
        tokenizer, _ = self._load()
        limits = LLParserLimits(
            max_items_in_row=_MAX_ITEMS if form.grammar is None else _MAX_ITEMS_OF_GRAMMAR,
            max_lexer_states=_MAX_LEXER_STATES,
        )
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
        matcher.compute_bitmask()  # here, where nobody waits, and to hear of what nothing can match
        if matcher.is_error():
            raise form_error(form, matcher.get_error())
        return LlguidanceMatcher(form, matcher)

    def fill(self, matchers: Sequence[TokenMatcher], bits: np.ndarray) -> dict[int, FormError]:
        from llguidance.numpy import fill_next_token_bitmask_par

        if not matchers:
            return {}
        own = cast(Sequence[LlguidanceMatcher], matchers)
        _, executor = self._load()
        fill_next_token_bitmask_par(executor, [(one.matcher, row) for row, one in enumerate(own)], bits)
        self._end_alike(bits.view(np.uint32))
        return {
            row: form_error(one.form, one.matcher.get_error()) for row, one in enumerate(own) if one.matcher.is_error()
        }

    def _load(self) -> "tuple[LLTokenizer, LLExecutor]":
        from llguidance import LLExecutor, LLTokenizer

        with self._loading:
            if self._loaded is None:
                tokenizer = LLTokenizer(self._definition, n_vocab=self._vocab_size, eos_token=self._eos_token_ids[0])
                self._loaded = tokenizer, LLExecutor(min(len(os.sched_getaffinity(0)), _MAX_THREADS))
                self._definition = ""
            return self._loaded

    def _end_alike(self, bits: np.ndarray) -> None:
        """Allow every end of sequence, in uint32 [n, W], where the first one is: the library knows that alone."""
        first, *others = self._eos_token_ids
        may_end = bits[:, first // 32] >> np.uint32(first % 32) & 1
        for token_id in others:
            bit = np.uint32(token_id % 32)
            word = bits[:, token_id // 32]
            word &= ~(np.uint32(1) << bit)
            word |= may_end << bit

"""llguidance behind the Grammars port."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from aphrodite.adapters.outbound.grammars.checks import FormChecks
from aphrodite.adapters.outbound.grammars.compiler import compile_grammar, load_tokenizer
from aphrodite.adapters.outbound.grammars.complaints import form_error
from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import TokenMatcher
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

_MAX_THREADS = 8  # that fill bits


@dataclass(slots=True)
class LlguidanceMatcher:
    """Implements `domain.ports.TokenMatcher`."""

    form: StructuredOutputs
    matcher: "LLMatcher"
    start_bits: np.ndarray | None  # int32 [W]: what is allowed at the beginning, as long as it stands there

    def advance(self, token_id: int) -> None:
        self.start_bits = None
        if not self.matcher.consume_token(token_id):
            raise form_error(self.form, self.matcher.get_error())

    def copy(self) -> "LlguidanceMatcher":
        return LlguidanceMatcher(self.form, self.matcher.deep_copy(), self.start_bits)


class LlguidanceGrammars:
    """Implements `domain.ports.Grammars` for a fast tokenizer."""

    def __init__(self, tokenizer_definition: str, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        """`tokenizer_definition` is what a tokenizer.json holds; `vocab_size` may exceed what is in it."""
        self._definition = tokenizer_definition
        self._vocab_size = vocab_size
        self._eos_token_ids = sorted(eos_token_ids)
        self._checks = FormChecks(tokenizer_definition, vocab_size, self._eos_token_ids)
        self._loading = threading.Lock()
        self._loaded: tuple[LLTokenizer, LLExecutor] | None = None

    def check(self, form: StructuredOutputs) -> CheckedForm:
        return self._checks.run(form)

    def compile(self, checked: CheckedForm) -> LlguidanceMatcher:
        tokenizer, _ = self._load()
        return LlguidanceMatcher(checked.form, *compile_grammar(tokenizer, checked.form, checked.grammar))

    def fill(self, matchers: Sequence[TokenMatcher], bits: np.ndarray) -> dict[int, FormError]:
        from llguidance.numpy import fill_next_token_bitmask_par

        if not matchers:
            return {}
        own = cast(Sequence[LlguidanceMatcher], matchers)
        _, executor = self._load()
        going_on = [(one.matcher, row) for row, one in enumerate(own) if one.start_bits is None]
        if going_on:
            fill_next_token_bitmask_par(executor, going_on, bits)
        for row, one in enumerate(own):
            if one.start_bits is not None:
                bits[row] = one.start_bits
        self._end_alike(bits.view(np.uint32))
        return {
            row: form_error(one.form, one.matcher.get_error()) for row, one in enumerate(own) if one.matcher.is_error()
        }

    def close(self) -> None:
        self._checks.close()

    def _load(self) -> "tuple[LLTokenizer, LLExecutor]":
        from llguidance import LLExecutor

        with self._loading:
            if self._loaded is None:
                tokenizer = load_tokenizer(self._definition, self._vocab_size, self._eos_token_ids)
                self._loaded = tokenizer, LLExecutor(min(len(os.sched_getaffinity(0)), _MAX_THREADS))
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

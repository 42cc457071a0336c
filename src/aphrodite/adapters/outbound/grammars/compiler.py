"""llguidance's compiler. The library is loaded with the first form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aphrodite.adapters.outbound.grammars.complaints import form_error
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_MAX_ITEMS = 2000  # ways in which an answer may be read so far; the library's own bound
_MAX_ITEMS_OF_GRAMMAR = 128  # a client's own grammar may be ambiguous at every token, when the work is their cube
_MAX_LEXER_STATES = 10_000  # some 1 kB each; they are found while answers are written, and shared by a form's matchers

GROWTH_BYTES = 10 * 2**20
"""What these states may come to."""


def load_tokenizer(definition: str, vocab_size: int, eos_token_ids: Sequence[int]) -> "LLTokenizer":
    """`definition` is what a tokenizer.json holds; `vocab_size` may exceed what is in it."""
    from llguidance import LLTokenizer

    return LLTokenizer(definition, n_vocab=vocab_size, eos_token=eos_token_ids[0])


def compile_grammar(tokenizer: "LLTokenizer", form: StructuredOutputs, grammar: str) -> "tuple[LLMatcher, np.ndarray]":
    """A matcher for a form in the library's notation, and what may come first, int32 [W]. Raises FormError."""
    from llguidance import LLMatcher, LLParserLimits
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    limits = LLParserLimits(
        max_items_in_row=_MAX_ITEMS if form.grammar is None else _MAX_ITEMS_OF_GRAMMAR,
        max_lexer_states=_MAX_LEXER_STATES,
    )
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    bits = allocate_token_bitmask(1, tokenizer.vocab_size)
    fill_next_token_bitmask(matcher, bits)  # here, where nobody waits, and to hear of what nothing can match
    if matcher.is_error():
        raise form_error(form, matcher.get_error())
    return matcher, bits[0]

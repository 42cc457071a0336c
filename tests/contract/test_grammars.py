"""What every Grammars promises, whatever it can compile besides choices."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.fakes import FakeGrammars, FakeTokenizer

from aphrodite.adapters.outbound.grammars.grammars import LlguidanceGrammars
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import Grammars, Tokenizer, TokenMatcher
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.allowed_tokens import num_bit_words

MORE_ENDS = frozenset({7, 40})  # of the real one, beside its own


@pytest.fixture(params=["fake", "llguidance"])
def grammars(
    request: pytest.FixtureRequest, real_tokenizer: HuggingFaceTokenizer
) -> Iterator[tuple[Grammars, Tokenizer, set[int]]]:
    if request.param == "fake":
        yield FakeGrammars(), FakeTokenizer(), set(FakeTokenizer.eos_token_ids)
        return
    ends = real_tokenizer.eos_token_ids | MORE_ENDS
    made = LlguidanceGrammars(real_tokenizer.definition, real_tokenizer.vocab_size, ends)
    yield made, real_tokenizer, set(ends)
    made.close()


def allowed(grammars: Grammars, matchers: list[TokenMatcher], vocab_size: int) -> list[set[int]]:
    bits = np.full((len(matchers), num_bit_words(vocab_size)), -1, np.int32)
    assert grammars.fill(matchers, bits) == {}
    flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
    assert not flags[:, vocab_size:].any()
    return [set(np.flatnonzero(row).tolist()) for row in flags]


def test_what_is_allowed_leads_to_a_choice_and_then_to_every_end(
    grammars: tuple[Grammars, Tokenizer, set[int]],
) -> None:
    compiled, tokenizer, ends = grammars
    choices = ("yes", "yes and no", "é")
    first = compiled.compile(compiled.check(StructuredOutputs(choice=choices)))
    for seed in range(8):
        rng, token_ids, other = np.random.default_rng(seed), list[int](), first.copy()
        matcher = first.copy()
        while not (now := allowed(compiled, [matcher], tokenizer.vocab_size)[0]) & ends or seed % 2:
            if now <= ends:
                break
            assert now & ends in (set(), ends)
            token_ids.append(int(rng.choice(sorted(now - ends))))
            matcher.advance(token_ids[-1])
        assert now & ends == ends
        assert b"".join(map(tokenizer.token_bytes, token_ids)).decode() in choices
        # A copy stands where it stood, and several are asked at once.
        at_start, at_end = allowed(compiled, [other, matcher], tokenizer.vocab_size)
        assert (at_end, bool(at_start & ends)) == (now, False)


def test_what_is_no_form_is_refused(grammars: tuple[Grammars, Tokenizer, set[int]]) -> None:
    with pytest.raises(FormError, match=r"^structured_outputs\.regex"):
        grammars[0].check(StructuredOutputs(regex="("))

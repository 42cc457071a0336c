"""Prompts of which each token sees all others: shared as a whole, run again after a preemption, never split."""

from dataclasses import replace

import pytest
from tests.parity.cases import Case, about
from tests.parity.comparison import GREEDY, REPORTED, assert_answers
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.memory import kv_cache_bytes, num_preemptions

from aphrodite.domain.errors import PromptTooLongError

CASES = (about(3), about(2, "How many?"), Case("<image>", 3), about(4), Case("The quick brown fox"))


def test_the_cache_holds_whole_prompts(open_llm: OpenLlm, reference: References) -> None:
    """An equal beginning saw another end."""
    theirs = reference("paligemma")
    with open_llm("paligemma", block_size=8) as llm:
        for case in (about(1), about(1, "How many?"), about(2)):
            (first,), (second,) = (assert_answers(llm, theirs, [case], GREEDY) for _ in range(2))
            assert first.num_cached_tokens == 0
            assert second.num_cached_tokens == (len(second.prompt_token_ids) - 1) // 8 * 8


@pytest.mark.parametrize("name", ["paligemma", "paligemma2"])
def test_preemption(name: str, open_llm: OpenLlm, folder: Folders, reference: References) -> None:
    """What was answered before is causal when it is run again."""
    theirs, many = reference(name), 24
    longest = max(len(theirs.answer(case, many).prompt_token_ids) for case in CASES) + many
    with open_llm(name, block_size=8, kv_cache_memory=kv_cache_bytes(folder(name), longest + 40, 8)) as llm:
        assert_answers(llm, theirs, CASES * 2, replace(REPORTED, max_tokens=many))
        assert num_preemptions(llm) > 0


def test_a_prompt_longer_than_a_step(open_llm: OpenLlm) -> None:
    with (
        open_llm("paligemma", max_num_batched_tokens=16) as llm,
        pytest.raises(PromptTooLongError, match="must run in one step, which has 16; raise max_num_batched_tokens"),
    ):
        llm.generate(about(1).inputs, GREEDY, use_tqdm=False)

"""What the tokens before say about the next one, against transformers and a slow loop."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.bias import first_bias, first_bias_of
from aphrodite.domain.scheduling.history import history_bias

VOCAB_SIZE = 6
token_ids = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=40)


def bias(history: list[int], sampling: SamplingParams) -> np.ndarray:
    found = first_bias(sampling, VOCAB_SIZE)
    added = history_bias(np.array(history, np.int32), sampling, VOCAB_SIZE)
    for token_id, first in zip(added, first_bias_of(sampling, list(added)), strict=True):
        found[token_id] = first + added[token_id]
    return found


def processed(processor: object, history: list[int]) -> np.ndarray:
    return processor(torch.tensor([history]), torch.zeros(1, VOCAB_SIZE))[0].numpy()


@given(history=token_ids, size=st.integers(1, 5))
def test_no_ngram_comes_twice(history: list[int], size: int) -> None:
    expected = processed(NoRepeatNGramLogitsProcessor(size), history)
    if np.isinf(expected).all():  # something must be said
        expected = np.zeros(VOCAB_SIZE)
    assert bias(history, SamplingParams(no_repeat_ngram_size=size)).tolist() == expected.tolist()


@given(
    history=token_ids,
    words=st.lists(
        st.lists(st.integers(0, VOCAB_SIZE - 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=5, unique=True
    ),
)
def test_no_bad_word_is_said(history: list[int], words: list[tuple[int, ...]]) -> None:
    expected = processed(NoBadWordsLogitsProcessor([list(word) for word in words]), history)
    assert bias(history, SamplingParams(bad_words=tuple(words))).tolist() == expected.tolist()


def slowly(history: list[int], params: SamplingParams) -> list[float]:
    """For each token: how long is the longest piece that ends the history, and that the token followed before?"""
    tokens = history[-params.dry_range :] if params.dry_range else history
    taken = []
    for token_id in range(VOCAB_SIZE):
        longest = 0
        for place, follower in enumerate(tokens):
            length = 0
            while (
                follower == token_id
                and length < place
                and tokens[place - 1 - length] == tokens[-1 - length]
                and tokens[-1 - length] not in params.dry_sequence_breakers
            ):
                length += 1
            longest = max(longest, length)
        counts = longest >= params.dry_allowed_length and token_id not in params.dry_sequence_breakers
        taken.append(-params.dry_multiplier * params.dry_base ** (longest - params.dry_allowed_length) if counts else 0)
    return taken


@given(
    history=token_ids,
    allowed=st.integers(1, 4),
    size=st.sampled_from([0, 0, 1, 5, 12, 100]),
    breakers=st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=2),
)
def test_what_goes_on_with_a_repetition_costs_the_more_the_longer_it_is(
    history: list[int], allowed: int, size: int, breakers: list[int]
) -> None:
    params = SamplingParams(
        dry_multiplier=0.8, dry_base=1.5, dry_allowed_length=allowed, dry_range=size, dry_sequence_breakers=breakers
    )
    np.testing.assert_allclose(bias(history, params), slowly(history, params), rtol=1e-6)


def test_a_loop_costs_no_more_than_a_float_holds() -> None:
    params = SamplingParams(dry_multiplier=1e300, dry_base=100, dry_sequence_breakers=[])
    found = history_bias(np.array([1, 2] * 500, np.int32), params, VOCAB_SIZE)
    assert found == {1: -1e30}


def test_what_a_request_bans_stays_banned_and_its_bias_counts_beside_its_history() -> None:
    params = SamplingParams(
        logit_bias={1: 2.5, 2: 1.0}, custom_token_bans=[2], dry_multiplier=1, dry_base=2, dry_sequence_breakers=[]
    )
    assert bias([3, 4, 1, 3, 4], params).tolist() == [0, 1.5, -np.inf, 0, 0, 0]
    assert bias([3, 4, 2, 3, 4], params).tolist() == [0, 2.5, -np.inf, 0, 0, 0]

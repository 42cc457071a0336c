"""What the tokens before say about the next one: n-grams, bad words and DRY.

Letters: n tokens of prompt and answer.
"""

import numpy as np

from aphrodite.domain.prompting.sampling_params import SamplingParams

_LONGEST_REPETITION = 50  # tokens: a longer one has no chance to go on, whatever the parameters are meant to do
_MOST = 1e30  # that is taken from a logit


def history_bias(token_ids: np.ndarray, sampling: SamplingParams, vocab_size: int) -> dict[int, float]:
    """What is added to the logits of which tokens behind `token_ids` int32 [n].

    Minus infinity for what would repeat an n-gram or end a bad word, unless that would leave no token at all.
    """
    bias = _dry(token_ids, sampling) if sampling.dry_multiplier > 0 else {}
    banned = {*_repeated(token_ids, sampling.no_repeat_ngram_size), *_completed(token_ids, sampling)}
    if len(banned.union(sampling.banned_token_ids)) < vocab_size:
        bias |= dict.fromkeys(banned, -np.inf)
    return bias


def _repeated(token_ids: np.ndarray, size: int) -> list[int]:
    """Tokens that would end an n-gram of this size that was there."""
    if not size or len(token_ids) < size:
        return []
    ends = np.arange(size - 1, len(token_ids))  # of every n-gram
    for back in range(1, size):
        ends = ends[token_ids[ends - back] == token_ids[-back]]
        if not len(ends):
            return []
    followers: list[int] = np.unique(token_ids[ends]).tolist()
    return followers


def _completed(token_ids: np.ndarray, sampling: SamplingParams) -> list[int]:
    """Last tokens of the bad words of which all others stand at the end."""
    tail = tuple(token_ids[-max((len(word) for word in sampling.bad_words), default=1) :].tolist())
    words = (word for word in sampling.bad_words if not isinstance(word, str) and 1 < len(word) <= len(tail) + 1)
    return [word[-1] for word in words if tail[len(tail) - len(word) + 1 :] == tuple(word[:-1])]


def _dry(token_ids: np.ndarray, sampling: SamplingParams) -> dict[int, float]:
    """Don't Repeat Yourself, as its author describes it: the longest repetition that a token goes on with is its price.

    A repetition is a piece of what was said that stands at the end, too; sequence breakers are in none.
    """
    tokens = token_ids[-sampling.dry_range :]
    breakers = set(sampling.dry_sequence_breakers)
    if not len(tokens) or tokens[-1].item() in breakers:
        return {}
    ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # of pieces like the end, and so long
    longest = np.zeros(len(tokens), np.int32)  # by place: of the repetition that ends in front of it
    for length in range(1, _LONGEST_REPETITION + 1):
        if length >= sampling.dry_allowed_length:
            longest[ends + 1] = length
        if length == len(tokens) or tokens[-1 - length].item() in breakers:
            break
        ends = ends[ends >= length]
        ends = ends[tokens[ends - length] == tokens[-1 - length]]
        if not len(ends):
            break
    places = np.flatnonzero(longest)
    followers, inverse = np.unique(tokens[places], return_inverse=True)
    lengths = np.zeros(len(followers), np.int32)
    np.maximum.at(lengths, inverse, longest[places])
    return {
        token_id: -min(sampling.dry_multiplier * sampling.dry_base ** (length - sampling.dry_allowed_length), _MOST)
        for token_id, length in zip(followers.tolist(), lengths.tolist(), strict=True)
        if token_id not in breakers
    }

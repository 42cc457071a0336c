"""Temperature, top-k, top-p, min-p and one draw a row, without sorting the vocabulary.

A filter keeps the tokens above a threshold and, of those equal to it, the first few by token id. Thresholds are found
by bisection on an integer that orders as the logit does: over the whole row only until so few are left in between that
they fit into registers. Probabilities are whole numbers in units of 2**-44 of the
largest, so that their sums are exact and do not depend on the order of addition: a row draws the same token in any
batch and on any device.

Letters: S samples, V vocabulary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aphrodite.backends.cuda.gpu.kernels.paging import STEP_FIELDS

_LOG2_E = tl.constexpr(1.4426950408889634)
_MIN_TEMPERATURE = tl.constexpr(1e-6)
_UNITS = tl.constexpr(2.0**44)  # 2**18 tokens of the largest probability add up to less than 2**63
_FEW = 4096
_LOWEST = tl.constexpr(-(2**31))  # below the key of every logit


def sample_tokens(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, uniform: Tensor
) -> Tensor:
    """Draw a token for each row of float32 logits [S, V], contiguous. Returns int64 [S].

    `top_k` is int32 [S], 0: all; the others are float32 [S]; a temperature of 0 takes the largest logit. Top-k filters
    first, then top-p what top-k has left, then min-p; of equal logits the lower token id comes first; the draw
    `uniform` in [0, 1) goes through the cumulative distribution in the vocabulary's order.

    As `backends.cuda.sampler.sample`, but for rounding: logits are compared before they are divided by the temperature,
    which may make different ones equal, and probabilities below 2**-44 of the largest are 0.
    """
    samples, vocabulary = logits.shape
    tokens = torch.empty(samples, dtype=torch.int64, device=logits.device)
    block, few = (min(most, triton.next_power_of_2(vocabulary)) for most in (8192, _FEW))
    found = torch.empty(samples, few, dtype=torch.int32, device=logits.device)
    _sample_tokens[(samples,)](
        logits, temperature, top_k, top_p, min_p, uniform, tokens, found, vocabulary, block=block, few=few, num_warps=16
    )
    return tokens


@triton.jit(do_not_specialize_on_alignment=STEP_FIELDS)
def _sample_tokens(
    logits,  # [S, V]
    temperature,  # [S]
    top_k,  # [S]
    top_p,  # [S]
    min_p,  # [S]
    uniform,  # [S]
    tokens,  # [S]
    found,  # [S, few] keys between two thresholds
    vocabulary,
    block: tl.constexpr,
    few: tl.constexpr,
):
    sample = tl.program_id(0)
    row = logits + sample.to(tl.int64) * vocabulary
    heat = tl.load(temperature + sample)
    wanted = tl.load(top_k + sample)
    largest = _largest(row, vocabulary, block)
    exponent = _LOG2_E / tl.maximum(heat, _MIN_TEMPERATURE)

    # Kept are keys above `threshold`, and the first `quota` of those equal to it.
    threshold = tl.full([], _LOWEST, tl.int32)
    quota = tl.full([], 0, tl.int32)
    count = vocabulary
    found += sample.to(tl.int64) * few
    if heat == 0.0:
        threshold, quota = _key(largest), tl.full([], 1, tl.int32)
    else:
        if (wanted > 0) & (wanted < vocabulary):
            threshold, quota, count = _top_k(row, vocabulary, _key(largest), wanted, found, block, few)
        share = tl.load(top_p + sample)
        if share < 1.0:
            threshold, quota = _top_p(
                row, vocabulary, largest, exponent, threshold, quota, count, share, found, block, few
            )
    floor = tl.load(min_p + sample)
    token = _draw(row, vocabulary, largest, exponent, threshold, quota, floor, tl.load(uniform + sample), block)
    tl.store(tokens + sample, token.to(tl.int64))


@triton.jit
def _load(row, vocabulary, start, block: tl.constexpr):
    """The row's logits from `start` on; minus infinity, which nothing keeps, past the vocabulary's end."""
    token = start + tl.arange(0, block)
    # The sum turns a negative zero into zero, to which it is equal.
    return tl.load(row + token, mask=token < vocabulary, other=float("-inf")) + 0.0


@triton.jit
def _key(logit):
    """An int32 that orders as the logit does: the bits of a float, those of the magnitude turned if it is negative."""
    bits = logit.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _logit(key):
    """The inverse of `_key`."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _mass(logit, largest, exponent, floor):
    """The probability in units of 2**-44 of the largest, int64; 0 below the fraction `floor` of it (min-p)."""
    weight = tl.exp2((logit - largest) * exponent)
    # What is not a number is no more than the floor either: a key between the logits' may stand for such.
    return tl.where(weight >= floor, weight * _UNITS, 0.0).to(tl.int64)


@triton.jit
def _largest(row, vocabulary, block: tl.constexpr):
    largest = tl.full([block], float("-inf"), tl.float32)
    for start in tl.range(0, vocabulary, block):
        largest = tl.maximum(largest, _load(row, vocabulary, start, block))
    return tl.max(largest, axis=0)


@triton.jit
def _count_from(row, vocabulary, key, block: tl.constexpr):
    """How many logits have this key or a larger one."""
    count = tl.zeros([block], tl.int32)
    for start in tl.range(0, vocabulary, block):
        token = start + tl.arange(0, block)
        is_counted = (_key(_load(row, vocabulary, start, block)) >= key) & (token < vocabulary)
        count += is_counted.to(tl.int32)
    return tl.sum(count, axis=0)


@triton.jit
def _above(row, vocabulary, largest, exponent, key, block: tl.constexpr):
    """The probability of all larger keys, int64, and how many they are."""
    mass = tl.zeros([block], tl.int64)
    count = tl.zeros([block], tl.int32)
    for start in tl.range(0, vocabulary, block):
        logit = _load(row, vocabulary, start, block)
        is_above = (_key(logit) > key) & (start + tl.arange(0, block) < vocabulary)
        mass += tl.where(is_above, _mass(logit, largest, exponent, 0.0), 0)
        count += is_above.to(tl.int32)
    return tl.sum(mass, axis=0), tl.sum(count, axis=0)


@triton.jit
def _between(row, vocabulary, low, high, found, block: tl.constexpr, few: tl.constexpr):
    """The keys from `low` up to but not `high`, of which there are `few` at most: int32 [few], the lowest for none."""
    count = tl.full([], 0, tl.int32)
    for start in tl.range(0, vocabulary, block):
        key = _key(_load(row, vocabulary, start, block))
        is_between = (key >= low) & (key < high) & (start + tl.arange(0, block) < vocabulary)
        tl.store(found + count + tl.cumsum(is_between.to(tl.int32), axis=0) - 1, key, mask=is_between)
        count += tl.sum(is_between.to(tl.int32), axis=0)
    tl.debug_barrier()  # what some threads have stored others load
    place = tl.arange(0, few)
    keys = tl.load(found + place, mask=place < count, other=_LOWEST)
    tl.debug_barrier()  # before the next are stored there
    return keys


@triton.jit
def _top_k(row, vocabulary, largest_key, wanted, found, block: tl.constexpr, few: tl.constexpr):
    """The threshold and quota that keep `wanted` tokens, and how many there are down to the threshold."""
    low = tl.full([], _LOWEST, tl.int64)  # at least `wanted` tokens have this key or a larger one
    high = largest_key.to(tl.int64) + 1  # fewer than `wanted` have
    from_low = vocabulary
    from_high = tl.full([], 0, tl.int32)
    while (high - low > 1) & (from_low != wanted) & (from_low - from_high > few):
        middle = (low + high) >> 1
        count = _count_from(row, vocabulary, middle.to(tl.int32), block)
        enough = count >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        from_low = tl.where(enough, count, from_low)
        from_high = tl.where(enough, from_high, count)
    if (high - low > 1) & (from_low != wanted):
        keys = _between(row, vocabulary, low, high, found, block, few)
        from_all = from_high
        while (high - low > 1) & (from_low != wanted):
            middle = (low + high) >> 1
            count = from_all + tl.sum((keys >= middle).to(tl.int32), axis=0)
            enough = count >= wanted
            low = tl.where(enough, middle, low)
            high = tl.where(enough, high, middle)
            from_low = tl.where(enough, count, from_low)
            from_high = tl.where(enough, from_high, count)
    # Exactly `wanted` from `low` on: keep them all. Else `low` is a token's key, and some of its equals are too many.
    is_exact = from_low == wanted
    threshold = tl.where(is_exact, low - 1, low).to(tl.int32)
    return threshold, tl.where(is_exact, 0, wanted - from_high), from_low


@triton.jit
def _top_p(
    row,
    vocabulary,
    largest,
    exponent,
    threshold,
    quota,
    count,
    share,
    found,
    block: tl.constexpr,
    few: tl.constexpr,
):
    """The threshold and quota that keep, of what those given keep, every token with less than `share` before it.

    `count` tokens are above the threshold given, with its equals where there is a quota of them.
    """
    equal_mass = _mass(_logit(threshold), largest, exponent, 0.0)
    total, _ = _above(row, vocabulary, largest, exponent, threshold, block)
    total += quota * equal_mass
    limit = tl.maximum(tl.ceil(total.to(tl.float64) * share.to(tl.float64)).to(tl.int64), 1)
    # The smallest key with less than `limit` above it: above `low` is too much, or `low` is not kept in any case.
    low = threshold.to(tl.int64) - tl.where(quota > 0, 1, 0)
    high = _key(largest).to(tl.int64)
    num_above_low = count
    num_above_high = tl.full([], 0, tl.int32)
    above_high = tl.full([], 0, tl.int64)
    while (high - low > 1) & (num_above_low - num_above_high > few):
        middle = (low + high) >> 1
        above, num_above = _above(row, vocabulary, largest, exponent, middle.to(tl.int32), block)
        fits = above < limit
        low = tl.where(fits, low, middle)
        high = tl.where(fits, middle, high)
        num_above_low = tl.where(fits, num_above_low, num_above)
        num_above_high = tl.where(fits, num_above, num_above_high)
        above_high = tl.where(fits, above, above_high)
    if high - low > 1:
        keys = _between(row, vocabulary, low + 1, high + 1, found, block, few)
        masses = tl.where(keys > low, _mass(_logit(keys), largest, exponent, 0.0), 0)
        above_all = above_high
        while high - low > 1:
            middle = (low + high) >> 1
            above = above_all + tl.sum(tl.where(keys > middle, masses, 0), axis=0)
            fits = above < limit
            low = tl.where(fits, low, middle)
            high = tl.where(fits, middle, high)
            above_high = tl.where(fits, above, above_high)
    key = high.to(tl.int32)
    one = tl.maximum(_mass(_logit(key), largest, exponent, 0.0), 1)
    fitting = tl.minimum((limit - above_high + one - 1) // one, vocabulary).to(tl.int32)
    return key, tl.where(key == threshold, tl.minimum(quota, fitting), fitting)


@triton.jit
def _draw(row, vocabulary, largest, exponent, threshold, quota, floor, uniform, block: tl.constexpr):
    """The token at which the cumulative distribution of what is kept passes the draw."""
    mass = tl.zeros([block], tl.int64)
    equals = tl.zeros([block], tl.int32)
    for start in tl.range(0, vocabulary, block):
        logit = _load(row, vocabulary, start, block)
        mass += tl.where(_key(logit) > threshold, _mass(logit, largest, exponent, floor), 0)
        equals += (_key(logit) == threshold).to(tl.int32)
    equal_mass = tl.where(quota > 0, _mass(_logit(threshold), largest, exponent, floor), 0)
    total = tl.sum(mass, axis=0) + tl.minimum(tl.sum(equals, axis=0), quota) * equal_mass
    target = (total.to(tl.float64) * uniform.to(tl.float64)).to(tl.int64)

    start = tl.full([], 0, tl.int32)
    before = tl.full([], 0, tl.int64)
    left = quota
    above, equal = _kept(row, vocabulary, start, largest, exponent, threshold, floor, block)
    here = tl.sum(above, axis=0) + tl.minimum(tl.sum(equal, axis=0), left) * equal_mass
    while (before + here <= target) & (start + block < vocabulary):
        before += here
        left -= tl.minimum(tl.sum(equal, axis=0), left)
        start += block
        above, equal = _kept(row, vocabulary, start, largest, exponent, threshold, floor, block)
        here = tl.sum(above, axis=0) + tl.minimum(tl.sum(equal, axis=0), left) * equal_mass
    is_kept = (equal > 0) & (tl.cumsum(equal, axis=0) <= left)
    cumulative = before + tl.cumsum(tl.where(is_kept, equal_mass, above), axis=0)
    token = start + tl.sum((cumulative <= target).to(tl.int32), axis=0)
    return tl.minimum(token, vocabulary - 1)


@triton.jit
def _kept(row, vocabulary, start, largest, exponent, threshold, floor, block: tl.constexpr):
    """Of a block: the mass of the keys above the threshold, int64, and 1 for those equal to it, int32."""
    logit = _load(row, vocabulary, start, block)
    above = tl.where(_key(logit) > threshold, _mass(logit, largest, exponent, floor), 0)
    return above, (_key(logit) == threshold).to(tl.int32)

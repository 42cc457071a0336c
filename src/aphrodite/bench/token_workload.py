"""The prompts of an offline benchmark: exact numbers of random tokens, and with each a picture if asked for."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image

from aphrodite.bench.workload import draw_picture
from aphrodite.domain.errors import ConfigError


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens: from `low` to `high`, each as likely; always the same where they are equal."""

    low: int
    high: int

    @classmethod
    def parse(cls, option: str, text: str) -> Self:
        """Of "128" or "16:256". Raises ConfigError, which names the option."""
        low, _, high = text.partition(":") if ":" in text else (text, "", text)
        if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
            raise ConfigError(f"{option} must be a number of tokens like 128, or a range like 16:256; got {text!r}.")
        return cls(int(low), int(high))

    def draw(self, random: np.random.Generator, count: int) -> list[int]:
        """`count` numbers."""
        found: list[int] = random.integers(self.low, self.high, count, endpoint=True).tolist()
        return found

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"


@dataclass(frozen=True)
class TokenPrompt:
    """One request: greedy, its answer of exactly `num_output_tokens`."""

    token_ids: list[int]  # with the image token once, first, where there is a picture
    num_output_tokens: int
    picture: Image.Image | None


@dataclass(frozen=True)
class TokenWorkload:
    """What is asked, round after round: the same lengths in each, other tokens and pictures, so that no cache helps.

    `image_size` is (width, height) in pixels, or None for text alone. The image token is added to `input_tokens`.
    """

    num_requests: int
    input_tokens: TokenCounts
    output_tokens: TokenCounts
    image_size: tuple[int, int] | None
    seed: int
    vocab_size: int
    image_token_id: int | None

    def prompts(self, round_number: int) -> list[TokenPrompt]:
        """The prompts of one round; the same seed gives the same ones."""
        lengths = np.random.default_rng(self.seed)
        num_inputs = self.input_tokens.draw(lengths, self.num_requests)
        num_outputs = self.output_tokens.draw(lengths, self.num_requests)
        random = np.random.default_rng((self.seed, round_number))
        return [self._prompt(random, *counts) for counts in zip(num_inputs, num_outputs, strict=True)]

    def warm_up(self, max_num_seqs: int, max_output_tokens: int) -> list[TokenPrompt]:
        """Prompts of no round, no more than run at once, their answers cut short."""
        return [
            TokenPrompt(prompt.token_ids, min(prompt.num_output_tokens, max_output_tokens), prompt.picture)
            for prompt in self.prompts(0)[:max_num_seqs]
        ]

    def _prompt(self, random: np.random.Generator, num_inputs: int, num_outputs: int) -> TokenPrompt:
        token_ids = draw_token_ids(random, num_inputs, self.vocab_size, self.image_token_id)
        if self.image_size is None or self.image_token_id is None:
            return TokenPrompt(token_ids, num_outputs, None)
        return TokenPrompt([self.image_token_id, *token_ids], num_outputs, draw_picture(random, self.image_size))


def draw_token_ids(random: np.random.Generator, count: int, vocab_size: int, image_token_id: int | None) -> list[int]:
    """Any tokens of the vocabulary but the image token."""
    left_out = vocab_size if image_token_id is None else image_token_id
    drawn = random.integers(0, vocab_size - (left_out < vocab_size), count)
    token_ids: list[int] = (drawn + (drawn >= left_out)).tolist()
    return token_ids

"""Log-probabilities as chat and text completions show them."""

from collections.abc import Iterator, Mapping, Sequence

from aphrodite.adapters.inbound.http.openai.objects import (
    ChatLogprobs,
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
    TokenLogprob,
    TopLogprob,
)
from aphrodite.domain.generation.outputs import Logprob, shown_bytes

Candidates = Mapping[int, Logprob]
"""Token id -> candidate at one position; the token that stands there comes first."""


def chat_logprobs(positions: Sequence[Candidates] | None, num_top: int) -> ChatLogprobs | None:
    """None where none were asked for."""
    return None if positions is None else ChatLogprobs([_chat_position(position, num_top) for position in positions])


def completion_logprobs(positions: Sequence[Candidates], offsets: Sequence[int], num_top: int) -> CompletionLogprobs:
    """`offsets` are those of the tokens in the choice's text."""
    logprobs = CompletionLogprobs([], [], [], list(offsets))
    for position in positions:
        named = dict(_named(position, num_top))
        token, logprob = next(iter(named.items()))
        logprobs.tokens.append(token)
        logprobs.token_logprobs.append(logprob)
        logprobs.top_logprobs.append(named)
    return logprobs


def prompt_logprobs(positions: Sequence[Candidates | None], num_top: int) -> PromptLogprobs:
    """Of each token of a prompt: itself and the best."""
    return [None if position is None else _by_id(position, num_top) for position in positions]


def echo_logprobs(text: str, first_token: bytes, positions: Sequence[Candidates], num_top: int) -> CompletionLogprobs:
    """Of a prompt whose text is shown: its first token, for which there is no candidate, then those at `positions`."""
    tokens = [first_token, *(next(iter(position.values())).token_bytes or b"" for position in positions)]
    offsets = list(_offsets(text, tokens))
    others = completion_logprobs(positions, offsets[1:], num_top)
    return CompletionLogprobs(
        [shown_bytes(first_token), *others.tokens],
        [None, *others.token_logprobs],
        [None, *others.top_logprobs],
        offsets,
    )


def _offsets(text: str, tokens: Sequence[bytes]) -> Iterator[int]:
    """Where each token stands in the text that a user gave; `<s>` and a blank put in front by the tokenizer do not."""
    data, start, num_chars = text.encode(), 0, 0
    for token in tokens:
        yield num_chars
        if not data.startswith(token, start):
            token = token.removeprefix(b" ")
            if not data.startswith(token, start):
                continue
        start += len(token)
        num_chars += sum(byte & 0xC0 != 0x80 for byte in token)  # a character has one byte that continues none


def _chat_position(position: Candidates, num_top: int) -> TokenLogprob:
    chosen = next(iter(position.values()))
    best = [
        TopLogprob(item.decoded_token or "", item.logprob, list(item.token_bytes or b""))
        for _, item in _best(position, num_top)
    ]
    return TokenLogprob(chosen.decoded_token or "", chosen.logprob, list(chosen.token_bytes or b""), best)


def _by_id(position: Candidates, num_top: int) -> dict[int, PromptLogprob]:
    chosen = next(iter(position))
    shown = {chosen: position[chosen]} | dict(_best(position, num_top))
    return {
        token_id: PromptLogprob(candidate.logprob, candidate.rank, candidate.decoded_token or "")
        for token_id, candidate in shown.items()
    }


def _named(position: Candidates, num_top: int) -> Iterator[tuple[str, float]]:
    """The token that stands there, then the best; one that prints as another before it goes by its id."""
    names: set[str] = set()
    chosen = next(iter(position))
    for token_id in (chosen, *(token_id for token_id, _ in _best(position, num_top) if token_id != chosen)):
        name = position[token_id].decoded_token
        if not name or name in names:
            name = f"token_id:{token_id}"
        names.add(name)
        yield name, position[token_id].logprob


def _best(position: Candidates, num_top: int) -> list[tuple[int, Logprob]]:
    return sorted((item for item in position.items() if item[1].rank <= num_top), key=lambda item: item[1].rank)

"""Log-probabilities as chat and text completions show them."""

from collections.abc import Mapping, Sequence

from aphrodite.adapters.inbound.http.openai.protocol import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopLogprob,
)
from aphrodite.domain.generation.outputs import Logprob

Candidates = Mapping[int, Logprob]
"""Token id -> candidate at one position; the token that stands there comes first."""


def chat_logprobs(positions: Sequence[Candidates] | None, num_top: int) -> ChatLogprobs | None:
    """None where none were asked for."""
    return None if positions is None else ChatLogprobs([_chat_position(position, num_top) for position in positions])


class CompletionLogprobsWriter:
    """Writes the log-probabilities of one choice, piece by piece: offsets count on from the piece before."""

    def __init__(self, num_top: int) -> None:
        self._num_top = num_top
        self._offset = 0

    def write(self, positions: Sequence[Candidates | None], first_token: str = "") -> CompletionLogprobs:
        """A position without candidates, a prompt's first, is the token `first_token`."""
        logprobs = CompletionLogprobs([], [], [], [])
        for position in positions:
            token = first_token
            if position is None:
                logprobs.token_logprobs.append(None)
                logprobs.top_logprobs.append(None)
            else:
                chosen = next(iter(position.values()))
                token = chosen.decoded_token or ""
                logprobs.token_logprobs.append(chosen.logprob)
                best = {item.decoded_token or "": item.logprob for item in _best(position, self._num_top)}
                logprobs.top_logprobs.append({token: chosen.logprob} | best)
            logprobs.tokens.append(token)
            logprobs.text_offset.append(self._offset)
            self._offset += len(token)
        return logprobs


def _chat_position(position: Candidates, num_top: int) -> TokenLogprob:
    chosen = next(iter(position.values()))
    token = chosen.decoded_token or ""
    best = [
        TopLogprob(item.decoded_token or "", item.logprob, list((item.decoded_token or "").encode()))
        for item in _best(position, num_top)
    ]
    return TokenLogprob(token, chosen.logprob, list(token.encode()), best)


def _best(position: Candidates, num_top: int) -> list[Logprob]:
    return sorted((item for item in position.values() if item.rank <= num_top), key=lambda item: item.rank)

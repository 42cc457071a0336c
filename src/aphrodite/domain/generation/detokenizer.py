"""Token ids to text while they come, never cutting a character."""

from collections.abc import Sequence

from aphrodite.domain.ports import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are no UTF-8, or not yet
_MAX_PENDING_TOKENS = 3  # a character has four bytes at most, a token one at least: three can be unfinished
_KEPT_TOKENS = 12  # as many as three replacement characters can come from
_MAX_WINDOW_TOKENS = 48


class Detokenizer:
    """The text of one sequence's output, piece by piece.

    What a token adds depends on those before it: a first word loses its leading space, bytes join to characters. So a
    token is read at the end of a window of tokens, and what the window's text has gained is its text:

        prompt and output   ... t t t t t t t t
        window                      |context|new|     text(context + new) - text(context)

    The pieces together are the output's text as it reads behind the prompt, `text(prompt + output)` less its beginning
    `text(prompt)`. Only where bytes are no UTF-8 may the two differ: a tokenizer with byte fallback decodes a whole run
    of bytes to U+FFFD when one is wrong, while characters that were complete stay what they were here.

    The window stays short, whatever the tokens: a token costs two decodings of a few dozen tokens at most.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool, prompt_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window = self._prompt_context(prompt_token_ids)
        self._num_read = len(self._window)  # tokens of the window whose text is out
        self._length = len(self._decode(self._window))  # characters of the window's text
        self._num_given = self._length  # those of them that are out

    def fork(self) -> "Detokenizer":
        """Another one that has come as far, for the next completion of the same prompt."""
        other = Detokenizer.__new__(Detokenizer)
        other.__dict__ |= self.__dict__ | {"_window": self._window.copy()}
        return other

    def push(self, token_ids: Sequence[int]) -> str:
        """Append tokens; the text that is certain now, which may be empty."""
        return "".join([self._push_token(token_id) for token_id in token_ids])

    def flush(self) -> str:
        """What is left once no more tokens come: the bytes of an unfinished character, as U+FFFD."""
        text = self._decode(self._window)
        rest, self._num_given = text[self._num_given :], len(text)
        return rest

    def _push_token(self, token_id: int) -> str:
        self._window.append(token_id)
        text, length_before = self._decode(self._window), self._length
        self._length = len(text)
        # Where the text became shorter, byte tokens became a character, be it U+FFFD itself.
        is_whole = not text.endswith(_REPLACEMENT) or self._length < length_before
        self._num_given = min(self._num_given, self._length)  # which may have begun in the prompt
        if is_whole and self._length > self._num_given:
            new = text[self._num_given :]
            self._keep(self._window[self._num_read :][-_KEPT_TOKENS:])
            self._num_read = len(self._window)
            return new
        if is_whole:
            # A token without text, a special one say: the context in front of it is still needed.
            if len(self._window) > _MAX_WINDOW_TOKENS:
                self._keep(self._window[:_KEPT_TOKENS])
            self._num_read = len(self._window)
            return ""
        if len(self._window) - self._num_read <= _MAX_PENDING_TOKENS:
            return ""
        # More tokens than an unfinished character can have: all but the last of these bytes will never be one.
        num_held = min(len(text) - len(text.rstrip(_REPLACEMENT)), _MAX_PENDING_TOKENS)
        end = max(len(text) - num_held, self._num_given)
        new, self._num_given = text[self._num_given : end], end
        if len(self._window) > _MAX_WINDOW_TOKENS:
            self._keep(self._window[-_KEPT_TOKENS:], len(text) - end)
            self._num_read = 0
        return new

    def _keep(self, window: list[int], num_held: int = 0) -> None:
        """Go on with a shorter window, whose text is out but for the last `num_held` characters."""
        self._window = window
        self._length = len(self._decode(window))
        self._num_given = max(self._length - num_held, 0)

    def _prompt_context(self, prompt_token_ids: Sequence[int]) -> list[int]:
        """The prompt's end: long enough to have text, so that a space behind it is not taken for a leading one.

        Where it can, it does not start within a character, which could spoil the bytes behind.
        """
        end, length = len(prompt_token_ids), _KEPT_TOKENS
        while not self._decode(list(prompt_token_ids[max(0, end - length) : end])) and length < end:
            length *= 2
            if length > _MAX_WINDOW_TOKENS:  # tokens without text, of which none is needed
                end, length = end - length // 2, _KEPT_TOKENS
        for longer in range(length, length + _MAX_PENDING_TOKENS + 1):
            context = list(prompt_token_ids[max(0, end - longer) : end])
            if not self._decode(context).startswith(_REPLACEMENT):
                return context
        return list(prompt_token_ids[max(0, end - length) : end])

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)

"""How log-probabilities are shown: bytes that are no text, tokens that print alike, places in the text."""

from aphrodite.adapters.inbound.http.openai.logprobs import chat_logprobs, completion_logprobs, echo_logprobs
from aphrodite.domain.generation.outputs import Logprob, shown_bytes


def candidate(token: bytes, logprob: float, rank: int) -> Logprob:
    return Logprob(logprob, rank, shown_bytes(token), token)


def test_a_part_of_a_character_is_shown_by_its_bytes() -> None:
    position = {5: candidate(b"\xf0", -0.5, 1), 6: candidate("é".encode(), -1.0, 2)}
    shown = chat_logprobs([position], 2)
    assert shown is not None
    [token] = shown.content
    assert (token.token, token.bytes) == ("bytes:\\xf0", [240])
    assert [(top.token, top.bytes) for top in token.top_logprobs] == [("bytes:\\xf0", [240]), ("é", [195, 169])]


def test_tokens_that_print_alike_stay_apart() -> None:
    # "A" and the byte 0x41, and two rows of the vocabulary that have no token
    tokens = {7: b"A", 8: b"A", 9: b"", 10: b"", 11: b"\xf0", 12: b"\xf1"}
    position = {
        token_id: candidate(token, -float(rank), rank) for rank, (token_id, token) in enumerate(tokens.items(), start=1)
    }
    [top] = completion_logprobs([position], [0], 20).top_logprobs
    assert top == {
        "A": -1.0,
        "token_id:8": -2.0,
        "token_id:9": -3.0,
        "token_id:10": -4.0,
        "bytes:\\xf0": -5.0,
        "bytes:\\xf1": -6.0,
    }


def test_the_token_that_stands_there_keeps_its_name() -> None:
    position = {8: candidate(b"A", -5.0, 30), 7: candidate(b"A", -1.0, 1)}
    shown = completion_logprobs([position], [3], 1)
    assert (shown.tokens, shown.token_logprobs, shown.text_offset) == (["A"], [-5.0], [3])
    assert shown.top_logprobs == [{"A": -5.0, "token_id:7": -1.0}]


def test_offsets_of_a_prompt_are_those_in_the_text_that_was_given() -> None:
    text = "The café 🙂!"
    tokens = [b" The", b" caf", "é".encode(), b" ", b"\xf0", b"\x9f\x99", b"\x82", b"!"]
    positions = [{index: candidate(token, -1.0, 1)} for index, token in enumerate(tokens)]
    shown = echo_logprobs(text, b"<s>", positions, 0)
    assert shown.tokens[:2] == ["<s>", " The"]
    assert shown.text_offset == [0, 0, 3, 7, 8, 9, 10, 10, 10]
    assert shown.token_logprobs[0] is None
    assert shown.top_logprobs[0] is None

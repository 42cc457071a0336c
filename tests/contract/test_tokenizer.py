"""What every Tokenizer promises."""

import pytest

from aphrodite.domain.ports import Tokenizer

TEXTS = ["What is in this picture?", "naïve café, 12 £", "日本語 и русский 🙂", "two  spaces\n\nand lines\t"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)).strip() == text.strip()


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_in_the_vocabulary(tokenizer: Tokenizer, text: str) -> None:
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in tokenizer.encode(text))
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in tokenizer.eos_token_ids)


def test_special_tokens_are_left_out_unless_wanted(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("Yes", add_special_tokens=False), *tokenizer.eos_token_ids]
    assert tokenizer.decode(ids).strip() == "Yes"
    assert tokenizer.special_tokens["eos_token"] in tokenizer.decode(ids, skip_special_tokens=False)


def test_marks_are_shown_where_other_special_tokens_are_left_out(tokenizer: Tokenizer) -> None:
    [eos] = tokenizer.eos_token_ids
    ids = [eos, *tokenizer.encode("Yes", add_special_tokens=False), eos]
    name = tokenizer.special_tokens["eos_token"]
    assert tokenizer.showing([name]).decode(ids) == tokenizer.decode(ids, skip_special_tokens=False)
    assert tokenizer.showing(["<other>"]).decode(ids) == tokenizer.decode(ids)
    assert tokenizer.showing([]).decode(ids, skip_special_tokens=False) == tokenizer.decode(
        ids, skip_special_tokens=False
    )


@pytest.mark.parametrize(
    "text", [*TEXTS, "a", " " * 3000, "the picture " * 2000, "<image>" * 2000, "\U0001f600" * 2000]
)
def test_only_a_text_of_more_tokens_is_found_to_exceed_them(tokenizer: Tokenizer, text: str) -> None:
    num_tokens = len(tokenizer.encode(text, add_special_tokens=False))
    assert len(text) <= num_tokens * tokenizer.max_token_chars
    assert not tokenizer.exceeds(text, num_tokens)
    assert tokenizer.exceeds(text * 100, num_tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_made_of_the_bytes_of_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode().removeprefix(" ") == text
    [eos] = tokenizer.eos_token_ids
    assert tokenizer.token_bytes(eos).decode() == tokenizer.special_tokens["eos_token"]

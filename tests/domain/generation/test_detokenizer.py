from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from aphrodite.domain.generation.detokenizer import Detokenizer

_CORPUS = ["What is left of the red square? A naïve café, 12 tables.", "How many circles are there? 3 été 日本語 日本"]
_SPECIAL = ["<s>", "<image>"]
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _id(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None
    return token_id


class _Decoding:
    """The library's own decoding, counted."""

    vocab_size = 0
    eos_token_ids: frozenset[int] = frozenset()
    chat_template: str | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.special_tokens: Mapping[str, str] = {}
        self.tokenizer = tokenizer
        self.longest = 0

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        self.longest = max(self.longest, len(token_ids))
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))


def _byte_level() -> Tokenizer:
    """As GPT-2, Qwen and Llama 3 have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in _SPECIAL])
    return tokenizer


def _metaspace() -> Tokenizer:
    """As Llama 2 and Mistral have it: words begin with U+2581, unknown characters fall back to bytes."""
    words = ["▁", "▁the", "▁red", "a", "b", "▁c", "é", "日", ".", "▁▁"]
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in _SPECIAL])
    return tokenizer


BYTE_LEVEL, METASPACE = _byte_level(), _metaspace()

_BYTE_LEVEL_IDS = st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=40)
_METASPACE_IDS = st.lists(st.integers(0, METASPACE.get_vocab_size() - 1), max_size=40)
# A character is either a word of the vocabulary or all of its bytes.
_WELL_FORMED_IDS = st.lists(
    st.sampled_from([*range(257, METASPACE.get_vocab_size())]).map(lambda index: [index])
    | st.characters(exclude_categories=["Cs"]).map(lambda c: [_id(METASPACE, f"<0x{b:02X}>") for b in c.encode()]),
    max_size=25,
).map(lambda groups: [token_id for group in groups for token_id in group])


def _pieces(tokenizer: Tokenizer, prompt: list[int], output: list[int], skip: bool, step: int = 1) -> list[str]:
    detokenizer = Detokenizer(_Decoding(tokenizer), skip, prompt)
    pieces = [detokenizer.push(output[start : start + step]) for start in range(0, len(output), step)]
    return [*pieces, detokenizer.flush()]


def _behind(tokenizer: Tokenizer, prompt: list[int], output: list[int], skip: bool) -> str:
    before = tokenizer.decode(prompt, skip_special_tokens=skip)
    return str(tokenizer.decode(prompt + output, skip_special_tokens=skip)[len(before) :])


@given(prompt=_BYTE_LEVEL_IDS, output=_BYTE_LEVEL_IDS, skip=st.booleans(), step=st.integers(1, 5))
def test_byte_level_pieces_join_to_the_full_text(prompt: list[int], output: list[int], skip: bool, step: int) -> None:
    assert "".join(_pieces(BYTE_LEVEL, prompt, output, skip, step)) == _behind(BYTE_LEVEL, prompt, output, skip)


@given(prompt=_WELL_FORMED_IDS, output=_WELL_FORMED_IDS, skip=st.booleans(), step=st.integers(1, 5))
def test_metaspace_pieces_join_to_the_full_text(prompt: list[int], output: list[int], skip: bool, step: int) -> None:
    assert "".join(_pieces(METASPACE, prompt, output, skip, step)) == _behind(METASPACE, prompt, output, skip)


@given(prompt=_WELL_FORMED_IDS, output=_METASPACE_IDS, skip=st.booleans())
def test_with_wrong_bytes_nothing_but_replacements_differs(prompt: list[int], output: list[int], skip: bool) -> None:
    ours = iter("".join(_pieces(METASPACE, prompt, output, skip)))
    expected = _behind(METASPACE, prompt, output, skip).replace(_REPLACEMENT, "")
    assert all(character in ours for character in expected)  # in the same order


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte level", "metaspace"])
@given(text=st.text(max_size=30), prompt=st.sampled_from(["", "the", "日", "é "]))
def test_no_piece_ends_within_a_character(tokenizer: Tokenizer, text: str, prompt: str) -> None:
    before = tokenizer.encode(prompt).ids
    output = tokenizer.encode(text).ids
    decoded = _behind(tokenizer, before, output, True)
    seen = ""
    for piece in _pieces(tokenizer, before, output, True):
        assert _REPLACEMENT not in piece or _REPLACEMENT in decoded
        seen += piece
        assert decoded.startswith(seen)
    assert seen == decoded


def _byte(tokenizer: Tokenizer, value: int) -> int:
    if tokenizer is METASPACE:
        return _id(tokenizer, f"<0x{value:02X}>")
    return _id(tokenizer, {byte: character for character, byte in _gpt2_alphabet().items()}[value])


def _gpt2_alphabet() -> dict[str, int]:
    """The printable stand-in of each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte level", "metaspace"])
@pytest.mark.parametrize("value", [0xFF, 0x80, 0xE4, 0xF0])
def test_endless_wrong_bytes_neither_stall_nor_grow(tokenizer: Tokenizer, value: int) -> None:
    decoding = _Decoding(tokenizer)
    detokenizer = Detokenizer(decoding, True, [])
    pieces = [detokenizer.push([_byte(tokenizer, value)]) for _ in range(1000)]
    assert decoding.longest < 64
    for start in range(10, 990):
        assert any(pieces[start : start + 10])
    pieces.append(detokenizer.flush())
    assert "".join(pieces) == _REPLACEMENT * 1000


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte level", "metaspace"])
def test_endless_special_tokens_do_not_grow_the_window(tokenizer: Tokenizer) -> None:
    decoding = _Decoding(tokenizer)
    words = tokenizer.encode("the red").ids
    detokenizer = Detokenizer(decoding, True, words)
    silent = _id(tokenizer, "<image>")
    assert detokenizer.push([silent] * 1000) == ""
    assert decoding.longest < 64
    output = tokenizer.encode(" red").ids[-1:]
    assert detokenizer.push(output) == _behind(tokenizer, words, [silent, *output], True)


def test_a_space_behind_a_prompt_of_image_tokens_is_kept() -> None:
    image = _id(METASPACE, "<image>")
    prompt = [_id(METASPACE, "a"), *[image] * 576]
    assert _pieces(METASPACE, prompt, [_id(METASPACE, "▁the")], True)[0] == " the"


def test_the_first_word_of_a_text_has_no_space_in_front() -> None:
    assert _pieces(METASPACE, [_id(METASPACE, "<s>")], [_id(METASPACE, "▁the")], True)[0] == "the"


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte level", "metaspace"])
def test_a_character_that_the_prompt_began(tokenizer: Tokenizer) -> None:
    first, *rest = [_byte(tokenizer, value) for value in "日".encode()]
    pieces = _pieces(tokenizer, [first], [*rest, *tokenizer.encode("a").ids], True)
    assert "".join(pieces).strip() == "a"

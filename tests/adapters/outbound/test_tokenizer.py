"""Tokenisation against transformers' own, and placeholders that users write."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.builders import CHAT_TEMPLATE, TokenizerKind, smollm2_gguf, tiny_tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from aphrodite.adapters.outbound.huggingface.location import ModelLocation, locate_model
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer, _byte_alphabet
from aphrodite.domain.errors import CheckpointError, PromptError, UnsupportedModelError

# How a folder says its tokenizer is made: plainly, or as the families' own classes that rebuild parts of it.
KINDS = [
    ("bytelevel", None),
    ("bytelevel", "Qwen2Tokenizer"),
    ("metaspace", None),
    ("metaspace", "LlamaTokenizer"),
]
TEXTS = [
    "USER: <image>\nWhat is the content of this image?\nASSISTANT:",
    "<image>",
    "a<image>b",
    "  two  spaces <image>  and\t\ttabs\n\n<image> ",
    "naïve café 何 \U0001f600 é",
    "<|im_end|> and </s> are special, <s> too; <imag e> and <image is not",
    "",
]


def save(folder: Path, kind: TokenizerKind, class_name: str | None, *, image_token: bool = True) -> Any:
    tiny_tokenizer(folder, kind, image_token=image_token)
    if class_name is not None:
        edit(folder / "tokenizer_config.json", tokenizer_class=class_name)
    return AutoTokenizer.from_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(folder: Path, **options: Any) -> HuggingFaceTokenizer:
    defaults: dict[str, Any] = {"vocab_size": 500, "config": {}, "generation_config": {}}
    return HuggingFaceTokenizer(ModelLocation(folder), **(defaults | options))


@pytest.mark.parametrize(("kind", "class_name"), KINDS)
def test_text_and_ids_are_as_transformers_has_them(tmp_path: Path, kind: TokenizerKind, class_name: str | None) -> None:
    reference = save(tmp_path, kind, class_name)
    ours = load(tmp_path, image_token_id=reference.convert_tokens_to_ids("<image>"))
    for text in TEXTS:
        for special in (True, False):
            ids = reference.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids
            for skip in (True, False):
                assert ours.decode(ids, skip_special_tokens=skip) == reference.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("clean_up", [True, False])
def test_decoding_keeps_spaces_as_transformers_does(tmp_path: Path, clean_up: bool) -> None:
    save(tmp_path, "bytelevel", None)
    edit(tmp_path / "tokenizer_config.json", clean_up_tokenization_spaces=clean_up)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    ids = reference.encode("it 's 3 , 4 . no ?")
    assert load(tmp_path).decode(ids) == reference.decode(ids) == "it 's 3 , 4 . no ?"


@pytest.mark.parametrize(("kind", "class_name"), KINDS)
def test_only_the_placeholder_is_the_image_token(tmp_path: Path, kind: TokenizerKind, class_name: str | None) -> None:
    """The reference never heard of <image>, and has another special token where the placeholder stands."""
    image_id = save(tmp_path / "ours", kind, class_name).convert_tokens_to_ids("<image>")
    ours = load(tmp_path / "ours", image_token_id=image_id)
    plain = save(tmp_path / "plain", kind, class_name, image_token=False)
    start = plain.encode("", add_special_tokens=True)
    stop, stop_id = plain.eos_token, plain.eos_token_id
    assert ours.image_token == "<image>"
    for text in TEXTS:
        ids = plain.encode(text, add_special_tokens=False)
        assert image_id not in ids
        assert ours.encode_with_image_words(text, ()) == start + ids
        for offset in [i for i in range(len(text)) if text.startswith("<image>", i)]:
            ids = plain.encode(text[:offset] + stop + text[offset + 7 :], add_special_tokens=False)
            expected = [image_id if token_id == stop_id else token_id for token_id in ids]
            assert ours.encode_with_image_words(text, (offset,), add_special_tokens=False) == expected
            assert ours.encode_with_image_words(text, (offset,)) == start + expected


def test_an_offset_without_placeholder(tmp_path: Path) -> None:
    ours = load(tmp_path, image_token_id=save(tmp_path, "bytelevel", None).convert_tokens_to_ids("<image>"))
    with pytest.raises(PromptError, match="There is no <image> at character 1"):
        ours.encode_with_image_words("<image>", (1,))


def test_image_token_listed_in_the_vocabulary_too(tmp_path: Path) -> None:
    """As trainers leave it that get the special tokens before the text."""
    image_id = save(tmp_path, "bytelevel", None).convert_tokens_to_ids("<image>")
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    definition["model"]["vocab"]["<image>"] = image_id
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    ids = load(tmp_path, image_token_id=image_id).encode_with_image_words("<image> <image>", (8,))
    assert (ids.count(image_id), ids[-1]) == (1, image_id)


def test_white_space_that_the_image_token_takes_in(tmp_path: Path) -> None:
    """Some tokenizers declare lstrip or rstrip on it; the placeholder then does the same."""
    image_id = save(tmp_path, "bytelevel", None).convert_tokens_to_ids("<image>")
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    definition["added_tokens"][-1] |= {"lstrip": True, "rstrip": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    ours = load(tmp_path, image_token_id=image_id)
    text = "a  <image>\n\nb"
    assert ours.encode_with_image_words(text, (3,)) == ours.encode(text) == ours.encode("a<image>b")


def test_threads_see_each_their_own(tmp_path: Path) -> None:
    ours = load(tmp_path, image_token_id=save(tmp_path, "metaspace", None).convert_tokens_to_ids("<image>"))

    def work(seed: int) -> bool:
        text = "".join(random.Random(seed).choices(["<image>", "word ", "é", "\n"], k=40)) + "<image>"
        results = (ours.encode(text), ours.encode_with_image_words(text, (len(text) - 7,)))
        return all(
            results == (ours.encode(text), ours.encode_with_image_words(text, (len(text) - 7,))) for _ in range(20)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))


def test_truncation_saved_with_the_tokenizer_is_not_applied(tmp_path: Path) -> None:
    tokenizer = save(tmp_path, "bytelevel", None)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load(tmp_path).encode("one two three four") == AutoTokenizer.from_pretrained(tmp_path).encode(
        "one two three four"
    )


def test_every_end_of_sequence_counts(tmp_path: Path) -> None:
    own = save(tmp_path, "bytelevel", None).eos_token_id
    assert load(tmp_path).eos_token_ids == {own}
    assert load(tmp_path, config={"eos_token_id": 7}, generation_config={"eos_token_id": [8, 9]}).eos_token_ids == {
        own,
        7,
        8,
        9,
    }
    assert load(tmp_path, config={"text_config": {"eos_token_id": 5}}).eos_token_ids == {own, 5}


def test_special_tokens_for_templates(tmp_path: Path) -> None:
    save(tmp_path, "metaspace", None)
    expected = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    assert dict(load(tmp_path).special_tokens) == expected


def test_chat_template_wherever_it_lies(tmp_path: Path) -> None:
    save(tmp_path, "bytelevel", None)
    assert load(tmp_path).chat_template == CHAT_TEMPLATE
    (tmp_path / "chat_template.jinja").unlink()
    assert load(tmp_path).chat_template is None
    edit(tmp_path / "tokenizer_config.json", chat_template="the tokenizer's")
    assert load(tmp_path).chat_template == "the tokenizer's"
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "the default"}]
    edit(tmp_path / "tokenizer_config.json", chat_template=named)
    assert load(tmp_path).chat_template == "the default"
    (tmp_path / "processor_config.json").write_text(json.dumps({"chat_template": "the processor's"}))
    assert load(tmp_path).chat_template == "the processor's"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "its own file's"}))
    assert load(tmp_path).chat_template == "its own file's"


def test_gguf() -> None:
    folder, file = smollm2_gguf().parent, smollm2_gguf().name
    reference = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    ours = HuggingFaceTokenizer(ModelLocation(folder, file), vocab_size=49152, config={}, generation_config={})
    text = "<|im_start|>user\nWhat's 17 + 25, and why?<|im_end|>\n"
    assert ours.encode(text) == reference.encode(text)
    assert ours.decode(ours.encode(text)) == reference.decode(reference.encode(text), skip_special_tokens=True)
    assert ours.eos_token_ids == {2}
    assert ours.chat_template == reference.chat_template
    assert ours.image_token is None
    assert ours.encode_with_image_words(text, ()) == ours.encode(text)


@pytest.fixture(scope="module", params=["bytelevel", "metaspace", "smollm2", "demo"])
def any_tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    if request.param == "demo":
        return load(locate_model("demo").folder)
    if request.param == "smollm2":
        location = ModelLocation(smollm2_gguf().parent, smollm2_gguf().name)
        return HuggingFaceTokenizer(location, vocab_size=49152, config={}, generation_config={})
    folder = tmp_path_factory.mktemp("any")
    save(folder, request.param, None)
    return load(folder)


_PIECES = st.sampled_from([" ", "  ", "\n", "a", "image", "What is the content", "e\u0301", "何", "\U0001f600", "</s>"])


@given(pieces=st.lists(st.tuples(_PIECES, st.integers(1, 3000)), min_size=1, max_size=8), data=st.data())
def test_no_text_that_fits_is_found_to_be_too_long(
    any_tokenizer: HuggingFaceTokenizer, pieces: list[tuple[str, int]], data: st.DataObject
) -> None:
    text = "".join(piece * count for piece, count in pieces)
    num_tokens = len(any_tokenizer.encode(text, add_special_tokens=False))
    assert len(text) <= num_tokens * any_tokenizer.max_token_chars
    assert not any_tokenizer.exceeds(text, data.draw(st.integers(num_tokens, 2 * num_tokens)))


@given(st.text(max_size=40))
@example("▁")
def test_a_text_is_made_of_the_bytes_of_its_tokens(any_tokenizer: HuggingFaceTokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text, add_special_tokens=False)
    # SmolLM2's vocabulary lacks a few bytes; others write U+2581 for a blank, and cannot tell the two apart.
    written = b"".join(map(any_tokenizer.token_bytes, ids)).decode(errors="replace")
    assert written == any_tokenizer.decode(ids, skip_special_tokens=False) or written == f" {text}".replace("▁", " ")


def test_every_byte_has_its_letter_in_byte_level_vocabularies(any_tokenizer: HuggingFaceTokenizer) -> None:
    pieces = list(map(any_tokenizer.token_bytes, any_tokenizer.encode("\U0001f600", add_special_tokens=False)))
    assert b"".join(pieces).lstrip() == b"\xf0\x9f\x98\x80"
    assert len(pieces) > 1
    assert set(_byte_alphabet()) == set(ByteLevel.alphabet())
    assert set(_byte_alphabet().values()) == {bytes([byte]) for byte in range(256)}
    assert any_tokenizer.token_bytes(10**6) == b""


def test_a_text_that_is_far_too_long_is_not_read_to_its_end(any_tokenizer: HuggingFaceTokenizer) -> None:
    read = 0

    class Counted(str):
        def __getitem__(self, key: Any) -> str:
            nonlocal read
            read += len(piece := str(self)[key])
            return piece

    assert any_tokenizer.exceeds(Counted("the picture " * 1_000_000), 1000)
    assert read < 60_000


def test_other_threads_run_while_a_long_text_is_encoded(any_tokenizer: HuggingFaceTokenizer) -> None:
    finished, beats = threading.Event(), 0

    def work() -> None:
        any_tokenizer.decode(any_tokenizer.encode("the picture " * 20_000))
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not finished.wait(0.001):
        beats += 1
    thread.join()
    assert beats > 10


def test_gguf_says_whether_a_blank_goes_in_front(tmp_path: Path) -> None:
    """SentencePiece's vocabulary as llama.cpp's converter writes it."""
    tokenizer = tiny_tokenizer(tmp_path, "metaspace", image_token=False)
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(
        [3 if index < 3 else 6 if len(t) == 6 and t[:3] == "<0x" else 1 for index, t in enumerate(tokens)]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    location = ModelLocation(tmp_path, "tiny.gguf")
    options: dict[str, Any] = {"vocab_size": 500, "config": {}, "generation_config": {}}
    with_blank = HuggingFaceTokenizer(location, **options)
    without = HuggingFaceTokenizer(location, **options, add_space_prefix=False)
    [the_and_blank, the, blank] = (without.encode(text, add_special_tokens=False) for text in (" The", "The", " "))
    assert with_blank.encode("The", add_special_tokens=False) == the_and_blank
    assert the != the_and_blank
    assert b"".join(map(without.token_bytes, the)) == b"The"
    assert without.decode(the_and_blank) == " The"
    assert with_blank.decode(the_and_blank) == "The"
    assert without.decode([*blank, *the]) == " The"


def test_text_that_is_not_unicode(tmp_path: Path) -> None:
    save(tmp_path, "bytelevel", None)
    with pytest.raises(PromptError, match="surrogate"):
        load(tmp_path).encode("a\ud800b")


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No tokenizer can be read"):
        load(tmp_path)


def test_damaged_tokenizer(tmp_path: Path) -> None:
    save(tmp_path, "bytelevel", None)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="No tokenizer can be read"):
        load(tmp_path)


def test_slow_tokenizer(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="slow kind"):
        load(tmp_path)


def test_model_with_an_image_token_that_the_tokenizer_lacks(tmp_path: Path) -> None:
    save(tmp_path, "bytelevel", None)
    with pytest.raises(CheckpointError, match="has no added token 17"):
        load(tmp_path, image_token_id=17)

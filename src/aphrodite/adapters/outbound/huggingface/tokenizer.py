"""Transformers' tokenizers behind the Tokenizer port, with placeholders that users cannot forge."""

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aphrodite.adapters.outbound.huggingface.json_file import read_json
from aphrodite.adapters.outbound.huggingface.location import ModelLocation
from aphrodite.domain.architectures.images.words import IMAGE_WORDS
from aphrodite.domain.errors import CheckpointError, PromptError, UnsupportedModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CHEAP_CHARS_PER_TOKEN = 2
_MIN_WINDOW_CHARS = 8192
_BLANK = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's
_MAX_COMPOSED_CHARS = 4  # that Unicode's normal forms put together into one


class HuggingFaceTokenizer:
    """The fast tokenizer of a folder or of a .gguf file; implements the Tokenizer port. Thread-safe.

    `vocab_size` is the number of rows of the decoder's embedding, which may exceed the tokenizer's own.
    `image_token` is the string of the image placeholder, None for a text-only model; `definition` what a tokenizer.json
    would hold. `add_space_prefix` is a .gguf
    file's: whether a blank goes in front of a text, where the vocabulary's words begin with one.

    Raises CheckpointError where there is no tokenizer or it does not know the image token, UnsupportedModelError for
    one that is not "fast" (made with the tokenizers library).
    """

    def __init__(
        self,
        location: ModelLocation,
        *,
        vocab_size: int,
        config: Mapping[str, Any],
        generation_config: Mapping[str, Any],
        image_token_id: int | None = None,
        add_space_prefix: bool = True,
        trust_remote_code: bool = False,
    ) -> None:
        tokenizer = _load(location, trust_remote_code)
        # What follows uses the library below transformers: its calls read and never write, so that threads can share
        # it, while transformers sets options on it before each call.
        self._fast: Tokenizer = tokenizer.backend_tokenizer
        if not add_space_prefix:
            self._fast = _without_space_prefix(self._fast)
        self._fast.no_truncation()
        self._fast.no_padding()
        self.definition = self._fast.to_str()  # as a tokenizer.json has it
        self.vocab_size = vocab_size
        self.eos_token_ids = _eos_token_ids(tokenizer.eos_token_id, generation_config, config)
        self.chat_template = _chat_template(location.folder, tokenizer.chat_template)
        self._token_bytes = _TokenBytes(self._fast, self.definition)
        added = self._fast.get_added_tokens_decoder()
        self._special_ids = {token.content: token_id for token_id, token in added.items() if token.special}
        self._hidden_ids: frozenset[int] | None = None  # what `decode` skips instead of all special tokens
        self._longest_token, self.max_token_chars = _lengths(self._fast)
        self.special_tokens: Mapping[str, str] = {
            name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
        }
        self.image_token: str | None = None
        self.image_marks: tuple[str, ...] = ()  # the other words of images that are tokens of this model
        if image_token_id is not None:
            self._secrets, self._disguised = _disguise(self.definition, image_token_id, location.folder)
            self.image_token, *marks = self._secrets
            self.image_marks = tuple(marks)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; strings of special tokens in it become those tokens. Raises PromptError."""
        return _encode(self._fast, text, add_special_tokens)

    def encode_with_image_words(
        self, text: str, offsets: Sequence[int], *, add_special_tokens: bool = True
    ) -> list[int]:
        """Token ids of `text`, where the image token's string and the marks around images are tokens at these offsets,
        in ascending order.

        Their other occurrences are encoded as ordinary text. Raises PromptError.
        """
        if self.image_token is None:
            return self.encode(text, add_special_tokens=add_special_tokens)
        pieces, end = [], 0
        for offset in offsets:
            word = next((word for word in self._secrets if text.startswith(word, offset)), None)
            if word is None:
                raise PromptError(f"There is no {self.image_token} at character {offset} of the prompt.")
            pieces += [text[end:offset], self._secrets[word]]
            end = offset + len(word)
        pieces.append(text[end:])
        return _encode(self._disguised, "".join(pieces), add_special_tokens)

    def exceeds(self, text: str, num_tokens: int) -> bool:
        """Whether `text` has more tokens than that; False where to encode it is cheap enough to find out.

        Counts in windows, until there are twice as many tokens: where N tokens of at most L characters are cut every
        L * L characters, each cut splits one of them, which makes at most N more.
        """
        if len(text) <= _CHEAP_CHARS_PER_TOKEN * num_tokens:
            return False
        window = max(self._longest_token**2, _MIN_WINDOW_CHARS)
        found = 0
        for start in range(0, len(text), window):
            found += len(_encode(self._fast, text[start : start + window], add_special_tokens=False))
            if found > 2 * num_tokens:
                return True
        return False

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids, as transformers decodes with clean_up_tokenization_spaces=False.

        That is its default for BPE vocabularies, whatever tokenizer_config.json says. Ids without a token are left out.
        """
        if skip_special_tokens and self._hidden_ids is not None:
            hidden, skip_special_tokens = self._hidden_ids, False
            token_ids = [token_id for token_id in token_ids if token_id not in hidden]
        # The call for batches lets other threads run meanwhile, and the one for a single text does not.
        return self._fast.decode_batch([list(token_ids)], skip_special_tokens=skip_special_tokens)[0]

    def showing(self, special_tokens: Collection[str]) -> "HuggingFaceTokenizer":
        """The same, but that its `decode` never skips these: they are marks within what a model says."""
        shown = self._special_ids.keys() & set(special_tokens)
        if not shown:
            return self
        other = copy(self)
        other._hidden_ids = frozenset(self._special_ids[token] for token in self._special_ids.keys() - shown)
        return other

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text; b"" for an id without a token."""
        return self._token_bytes[token_id]


class _TokenBytes(dict[int, bytes]):
    """Token id -> the bytes that it stands for, worked out when first asked for."""

    def __init__(self, fast: "Tokenizer", definition: str) -> None:
        super().__init__()
        decoder = json.dumps(json.loads(definition)["decoder"])
        self._fast = fast
        self._added = {token_id: token.content for token_id, token in fast.get_added_tokens_decoder().items()}
        self._alphabet = _byte_alphabet() if '"ByteLevel"' in decoder else {}
        self._has_fallback = '"ByteFallback"' in decoder

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = found = self._find(token_id)
        return found

    def _find(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._fast.id_to_token(token_id)
        if token is None:
            return b""
        if self._alphabet:
            return b"".join(self._alphabet.get(character) or character.encode() for character in token)
        if self._has_fallback and re.fullmatch("<0x[0-9A-F]{2}>", token):
            return bytes.fromhex(token[3:5])
        return token.replace(_BLANK, " ").encode()


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's: what can be printed stands for itself, other bytes for characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return {character: bytes([byte]) for character, byte in ({chr(b): b for b in printable} | stand_ins).items()}


def _load(location: ModelLocation, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    options = {} if location.gguf_file is None else {"gguf_file": location.gguf_file}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(location.folder), trust_remote_code=trust_remote_code, local_files_only=True, **options
        )
    except Exception as error:  # transformers raises nearly anything for missing and damaged files
        where = location.gguf_path or location.folder
        raise CheckpointError(
            f"No tokenizer can be read from {where}; it needs a tokenizer.json, or pass tokenizer=."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModelError(
            f"The tokenizer in {location.folder} is of the slow kind; convert it to a tokenizer.json."
        )
    return tokenizer


def _encode(fast: "Tokenizer", text: str, add_special_tokens: bool) -> list[int]:
    try:
        # The call for batches lets other threads run meanwhile, and the one for a single text does not.
        return list(fast.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids)
    except (UnicodeEncodeError, TypeError) as error:  # the library takes such a string for no string at all
        raise PromptError("The prompt holds half of a surrogate pair, which is not valid Unicode text.") from error


def _without_space_prefix(fast: "Tokenizer") -> "Tokenizer":
    """A copy that puts no blank in front of a text, and takes none away."""
    from tokenizers import Tokenizer

    def without(part: Any) -> Any:
        if isinstance(part, list):
            return [without(item) for item in part]
        if not isinstance(part, dict):
            return part
        return {key: without(value) for key, value in part.items()} | changes.get(part.get("type", ""), {})

    changes: dict[str, dict[str, Any]] = {
        "Metaspace": {"prepend_scheme": "never"},
        "Prepend": {"prepend": ""},
        "Strip": {"start": 0},
    }
    definition = json.loads(fast.to_str())
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        definition[name] = without(definition[name])
    return Tokenizer.from_str(json.dumps(definition))


def _lengths(fast: "Tokenizer") -> tuple[int, int]:
    """Characters of the longest token, and most characters of a text that become one token."""
    longest = max(map(len, fast.get_vocab(with_added_tokens=True)))
    return longest, longest * (1 if fast.normalizer is None else _MAX_COMPOSED_CHARS)


def _disguise(definition_text: str, image_token_id: int, folder: Path) -> tuple[dict[str, str], "Tokenizer"]:
    """The words of images, the image token's first, each with a secret; and a copy of the tokenizer that knows their
    tokens by the secrets only.

    Splitting at special tokens, and all that depends on it, stays the tokenizer's own; yet no text that a user can
    write holds a secret, and the words themselves are to the copy text like any other.
    """
    from tokenizers import Tokenizer

    definition = json.loads(definition_text)
    names = {token["id"]: token["content"] for token in definition["added_tokens"]}
    if image_token_id not in names:
        raise CheckpointError(
            f"The tokenizer in {folder} has no added token {image_token_id}, the model's image token."
        )
    ids = {name: token_id for token_id, name in names.items()}
    words = [names[image_token_id], *sorted(IMAGE_WORDS & ids.keys() - {names[image_token_id]})]
    secret_of = {word: f"<image-{secrets.token_hex(16)}>" for word in words}
    for token in definition["added_tokens"]:
        token["content"] = secret_of.get(token["content"], token["content"])
    vocabulary = definition["model"].get("vocab")
    if isinstance(vocabulary, dict):  # some list their special tokens here as well
        definition["model"]["vocab"] = {secret_of.get(name, name): number for name, number in vocabulary.items()}
    copy = Tokenizer.from_str(json.dumps(definition))
    for word, secret in secret_of.items():
        if copy.encode(secret, add_special_tokens=False).ids != [ids[word]]:
            raise CheckpointError(f"The tokenizer in {folder} cannot tell its image token {word} from text.")
    return secret_of, copy


def _eos_token_ids(own: int | None, generation_config: Mapping[str, Any], config: Mapping[str, Any]) -> frozenset[int]:
    """Every id that ends a sequence; the files name one, several or none, and not always the same."""
    ids: set[int] = set() if own is None else {own}
    for source in (generation_config, config, config.get("text_config") or {}):
        value = source.get("eos_token_id")
        ids.update([value] if isinstance(value, int) else value if isinstance(value, Iterable) else [])
    return frozenset(ids)


def _chat_template(folder: Path, own: str | dict[str, str] | None) -> str | None:
    """The processor's template, which places images, before the tokenizer's."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for file in ("chat_template.json", "processor_config.json"):
        if (folder / file).is_file():
            template = read_json(folder / file).get("chat_template")
            if isinstance(template, str):
                return template
    return own.get("default") if isinstance(own, dict) else own

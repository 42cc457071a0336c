"""What the compiler makes of the schemas of the JSON-Schema-Test-Suite, and that the documentation says so."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.json_schema_suite.groups import Group, groups

from aphrodite.adapters.outbound.grammars.grammars import LlguidanceGrammars
from aphrodite.adapters.outbound.huggingface.location import ModelLocation
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import TokenMatcher
from aphrodite.domain.prompting.json_schema import FORMATS, UNSUPPORTED
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs
from aphrodite.domain.scheduling.allowed_tokens import num_bit_words

PAGE = Path(__file__).parents[3] / "docs" / "structured-outputs.md"


class Compiled:
    """Every schema of the suite: those that are followed, and why the others are not."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = HuggingFaceTokenizer(ModelLocation(folder), vocab_size=450, config={}, generation_config={})
        ends = self.tokenizer.eos_token_ids
        self.grammars = LlguidanceGrammars(self.tokenizer.definition, self.tokenizer.vocab_size, ends)
        self.followed: list[tuple[Group, TokenMatcher]] = []
        self.refused: list[tuple[Group, str]] = []
        self._end = min(ends)
        self._bits = np.zeros((1, num_bit_words(self.tokenizer.vocab_size)), np.int32)
        for group in groups():
            try:
                matcher = self.grammars.compile(self.grammars.check(StructuredOutputs(json=group.schema)))
                self.followed.append((group, matcher))
            except FormError as error:
                self.refused.append((group, str(error)))

    def takes(self, start: TokenMatcher, text: str) -> bool:
        """Whether `text` may be an answer, whole."""
        matcher = start.copy()
        for token_id in [*self.tokenizer.encode(text), self._end]:
            assert self.grammars.fill([matcher], self._bits) == {}
            word = self._bits.view(np.uint32)[0, token_id // 32]
            if not word >> np.uint32(token_id % 32) & 1:
                return False
            if token_id != self._end:
                matcher.advance(token_id)
        return True


@pytest.fixture(scope="module")
def compiled(text_folder: Path) -> Iterator[Compiled]:
    made = Compiled(text_folder)
    yield made
    made.grammars.close()


def written(instance: Any) -> set[str]:
    """In JSON, with and without blanks."""
    return {json.dumps(instance, ensure_ascii=False), json.dumps(instance, separators=(",", ":"))}


def test_no_invalid_instance_can_be_answered(compiled: Compiled) -> None:
    assert len(compiled.followed) > 140
    num_invalid = 0
    for group, matcher in compiled.followed:
        for instance, is_valid in group.instances:
            if not is_valid:
                num_invalid += 1
                assert not any(compiled.takes(matcher, text) for text in written(instance)), (group, instance)
    assert num_invalid > 200


def test_most_valid_ones_can(compiled: Compiled) -> None:
    """Others have their properties in another order than the schema, or write 1.0 for 1."""
    valid = [
        any(compiled.takes(matcher, text) for text in written(instance))
        for group, matcher in compiled.followed
        for instance, is_valid in group.instances
        if is_valid
    ]
    assert np.mean(valid) > 0.9


def test_what_is_refused_is_told_with_its_place(compiled: Compiled) -> None:
    for _, sentence in compiled.refused:
        assert re.match(r"structured_outputs\.json cannot be followed( at #\S*)?: ", sentence)
    places = [sentence for _, sentence in compiled.refused if " at #" in sentence]
    assert len(places) > 200


def test_the_page_lists_what_is_refused(compiled: Compiled) -> None:
    page = PAGE.read_text()
    assert f"{len(compiled.followed)} of its {len(groups())} schemas are followed" in page
    listed = re.search(r"Refused keywords: (.*?)\.\n", page, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`([^`]+)`", listed[1])) == UNSUPPORTED
    formats = re.search(r"Formats: (.*?)\.\n", page, re.DOTALL)
    assert formats is not None
    assert set(re.findall(r"`([^`]+)`", formats[1])) == FORMATS
    # Files of the suite whose every schema is refused.
    whole = {group.keyword for group in groups()} - {group.keyword for group, _ in compiled.followed}
    told = re.search(r"Of these nothing is followed: (.*?)\.\n", page, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"`([^`]+)`", told[1])) == whole

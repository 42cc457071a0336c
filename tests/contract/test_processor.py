"""What every Processor promises."""

import numpy as np
import pytest

from aphrodite.domain.errors import PlaceholderError, PromptError
from aphrodite.domain.ports import Processor
from aphrodite.domain.prompting.prompts import Prompt

RED = np.full((12, 16, 3), (200, 10, 10), dtype=np.uint8)
BLUE = np.full((12, 16, 3), (10, 10, 200), dtype=np.uint8)


def test_text_alone(processor: Processor) -> None:
    processed = processor.process(Prompt("Good morning", None))
    assert processed.text == "Good morning"
    assert processed.image is None
    assert processed.token_ids


def test_the_placeholder_becomes_the_images_tokens(processor: Processor) -> None:
    processed = processor.process(Prompt("one <image> two", None, RED))
    image = processed.image
    assert image is not None
    span = processed.token_ids[image.start : image.start + image.num_tokens]
    assert len(set(span)) == 1
    assert processed.token_ids.count(span[0]) == image.num_tokens


def test_the_content_hash_tells_pictures_apart(processor: Processor) -> None:
    hashes = []
    for picture in (RED, BLUE, RED.copy()):
        image = processor.process(Prompt("<image>", None, picture)).image
        assert image is not None
        assert image.pixels.dtype == np.uint8
        hashes.append(image.content_hash)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(
    ("text", "picture"), [("no place", RED), ("<image> nothing there", None), ("<image><image>", RED)]
)
def test_pictures_and_placeholders_must_match(processor: Processor, text: str, picture: np.ndarray | None) -> None:
    with pytest.raises(PlaceholderError):
        processor.process(Prompt(text, None, picture))


def test_ids_outside_the_vocabulary(processor: Processor) -> None:
    with pytest.raises(PromptError, match="outside the vocabulary"):
        processor.process(Prompt(None, (1, 10**7)))

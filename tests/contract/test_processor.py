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
    assert processed.images == ()
    assert processed.token_ids


def test_the_placeholder_becomes_the_images_tokens(processor: Processor) -> None:
    processed = processor.process(Prompt("one <image> two", None, (RED,)))
    [span] = processed.images
    token_ids = processed.token_ids[span.start : span.stop]
    assert len(set(token_ids)) == 1
    assert processed.token_ids.count(token_ids[0]) == span.num_tokens
    assert span.is_feature.sum() == span.image.plan.num_features


def test_several_images_stand_in_their_order(processor: Processor) -> None:
    processed = processor.process(Prompt("<image> and <image>, <image>", None, (RED, BLUE, RED)))
    hashes = [span.image.content_hash for span in processed.images]
    assert hashes[0] == hashes[2] != hashes[1]
    assert all(span.stop <= after.start for span, after in zip(processed.images, processed.images[1:], strict=False))
    assert processed.num_image_tokens == sum(span.num_tokens for span in processed.images)


def test_the_content_hash_tells_pictures_apart(processor: Processor) -> None:
    hashes = []
    for picture in (RED, BLUE, RED.copy()):
        [span] = processor.process(Prompt("<image>", None, (picture,))).images
        assert span.image.patches.dtype == np.uint8
        hashes.append(span.image.content_hash)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(
    ("text", "pictures"),
    [("no place", (RED,)), ("<image> nothing there", ()), ("<image><image>", (RED,)), ("<image>", (RED, BLUE))],
)
def test_pictures_and_placeholders_must_match(
    processor: Processor, text: str, pictures: tuple[np.ndarray, ...]
) -> None:
    with pytest.raises(PlaceholderError):
        processor.process(Prompt(text, None, pictures))


def test_ids_outside_the_vocabulary(processor: Processor) -> None:
    with pytest.raises(PromptError, match="outside the vocabulary"):
        processor.process(Prompt(None, (1, 10**7)))

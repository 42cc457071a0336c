"""Pictures and placeholders that are wrong for a family: typed errors with a sentence, before anything is scheduled."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from PIL import Image
from tests.parity.checkpoints import SEEING
from tests.parity.fixture_types import Folders
from tests.parity.pictures import make

from aphrodite import LLM, SamplingParams
from aphrodite.domain.errors import ImageError, PlaceholderError, PromptError, PromptTooLongError, RequestError

NAMES = ("clip-llama", *SEEING)
MAX_MODEL_LEN = 8
LARGE = make("RGB", 200, 170).rgb


@pytest.fixture(scope="module")
def opened(folder: Folders) -> Callable[[str], LLM]:
    """With a context that no picture fits into."""
    options: dict[str, Any] = {"backend": "cuda", "device": "cpu", "dtype": "float32", "kv_cache_memory": 1 << 20}
    return cache(lambda name: LLM(str(folder(name)), max_model_len=MAX_MODEL_LEN, **options))


@pytest.mark.parametrize("name", NAMES)
def test_mistakes(name: str, opened: Callable[[str], LLM]) -> None:
    llm = opened(name)
    place = llm._frontend.image_token
    assert place is not None
    others = "<image>" if place != "<image>" else "<|image_pad|>"

    def refused(error: type[RequestError], image: object, **prompt: Any) -> str:
        with pytest.raises(error) as caught:
            llm.generate([{"prompt": "x"}, {**prompt, "multi_modal_data": {"image": image}}], use_tqdm=False)
        assert type(caught.value) is error
        assert caught.value.__notes__ == ["(prompt 1 of the list)"]
        assert not llm._engine.has_unfinished
        return str(caught.value)

    assert "too thin, 804x4; one side may be 200 times" in refused(ImageError, Image.new("RGB", (804, 4)), prompt=place)
    too_long = refused(PromptTooLongError, LARGE, prompt=place)
    assert f"length is {MAX_MODEL_LEN} tokens. However, you requested " in too_long
    assert " of them for images; 1 for the answer" in too_long
    assert "At most 1 image" in refused(PromptError, [LARGE, LARGE], prompt=place * 2)
    assert f"no placeholder; put {place} where" in refused(PlaceholderError, LARGE, prompt=others)
    assert "2 image placeholders for one image" in refused(PlaceholderError, LARGE, prompt=place * 2)
    assert "placeholder but no image" in refused(PlaceholderError, None, prompt=place)
    [place_id] = llm.encode(place, add_special_tokens=False)[-1:]
    assert "placeholder but no image" in refused(PlaceholderError, None, prompt_token_ids=[place_id])
    [output] = llm.generate("x", SamplingParams(max_tokens=1), use_tqdm=False)
    assert output.finished

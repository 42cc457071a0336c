import pytest
from tests.fakes import fake_span

from aphrodite.domain.errors import PromptTooLongError
from aphrodite.domain.prompting.prompt_length import check_whole_images, check_whole_prompt


def test_an_image_that_is_never_split_fits_into_a_step() -> None:
    whole, causal = fake_span(b"", 3, 9, sees_forward=True), fake_span(b"", 3, 9)
    check_whole_images([whole, causal], 9)
    check_whole_images([causal], 8)
    with pytest.raises(PromptTooLongError, match="9 tokens that must run in one step, which has 8"):
        check_whole_images([whole], 8)


def test_a_prompt_that_is_never_split_fits_into_a_step() -> None:
    check_whole_prompt(9, 9)
    with pytest.raises(PromptTooLongError, match="The prompt takes 9 tokens that must run in one step, which has 8"):
        check_whole_prompt(9, 8)

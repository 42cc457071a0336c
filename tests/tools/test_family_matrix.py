"""The pages' table of families, and the tests that it is made from."""

import pytest

from aphrodite.domain.architectures import registry
from family_matrix import PAGES, Run, lines, runs, with_table


def test_the_pages_are_up_to_date() -> None:
    """Else: python tools/family_matrix.py --write"""
    found = lines()
    for page in PAGES:
        assert page.read_text() == with_table(page, found)


def test_what_is_left_out_on_a_backend_is_not_claimed() -> None:
    found = runs()
    for feature in ("answers", "chunks", "cache", "preemption"):
        assert Run("qwen3-vl", "cuda", feature) in found
        assert Run("gemma3", "jax_tpu", feature) in found
    assert Run("glm4v", "cuda", "preemption") in found
    assert Run("glm4v", "jax_tpu", "preemption") not in found
    assert Run("paligemma", "cuda", "chunks") not in found


def test_a_family_without_a_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("family_matrix.VISION_MODELS", {**registry.VISION_MODELS, "new_vl": None})
    with pytest.raises(ValueError, match="no row: new_vl"):
        lines()

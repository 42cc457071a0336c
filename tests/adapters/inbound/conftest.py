"""One engine for each tiny checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aphrodite import LLM

KV_CACHE_BYTES = 4 << 20


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small gain nothing from threads, and test workers side by side lose much by them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llm(llava_folder: Path) -> Iterator[LLM]:
    """LLaVA, 16 tokens a picture."""
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=KV_CACHE_BYTES) as built:
        yield built


@pytest.fixture(scope="session")
def text_llm(text_folder: Path) -> Iterator[LLM]:
    """A model that reads text only."""
    with LLM(str(text_folder), device="cpu", kv_cache_memory=KV_CACHE_BYTES) as built:
        yield built


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8))

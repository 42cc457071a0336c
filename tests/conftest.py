"""Settings of all tests, and the tiny checkpoints that many of them share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Triton reads this when it is first imported, whichever test does that; `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run: a check is red because of what changed, and never by luck.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.builders import tiny_llava  # tests of the domain do without transformers

    return tiny_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.builders import tiny_text

    return tiny_text(tmp_path_factory.mktemp("text"), "qwen2")

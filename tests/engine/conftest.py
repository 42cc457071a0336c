"""Settings of the engine's tests."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def importable_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned process gets our sys.path, and imports its builder from `tests`."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])

"""The backend under test with other limits, installed the way any other package installs a backend."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

import pytest

from aphrodite import bootstrap


def install(monkeypatch: pytest.MonkeyPatch, backend: str, **limits: int) -> str:
    """The name under which `LLM` finds it, until the test ends."""

    class Entry:
        name = f"{backend}-with-limits"

        @staticmethod
        def load() -> Callable[..., Any]:
            create = next(iter(entry_points(group="aphrodite.backends", name=backend))).load()

            def create_with_limits(*args: Any) -> Any:
                built = create(*args)
                built.limits = replace(built.limits, **limits)
                return built

            return create_with_limits

    monkeypatch.setattr(bootstrap, "entry_points", lambda group: [Entry])
    return Entry.name

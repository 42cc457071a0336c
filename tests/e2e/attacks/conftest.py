"""The attacked server: the demo model, and nothing set but what keeps it small."""

from collections.abc import Iterator

import pytest
from tests.e2e.server_process import SMALL, ServerProcess, running


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("attacked") / "log", "demo", *SMALL) as process:
        yield process

"""The parity suite: every compute backend against transformers, through the public API alone."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import compiled_programs
from tests.parity.checkpoints import MAKERS
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.reference import Reference
from tests.parity.selection import BACKENDS

from aphrodite import LLM

# Few slots and short steps: few programs to compile, and still all of a test's prompts in one step.
SETTINGS: dict[str, dict[str, Any]] = {"cuda": {}, "jax_tpu": {"max_num_seqs": 8, "max_num_batched_tokens": 64}}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_left_out(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _is_left_out(item: pytest.Item) -> bool:
    return any(item.callspec.params["backend"] in mark.args for mark in item.iter_markers("left_out"))  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small gain nothing from threads, and test workers side by side lose much by them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _keep_compiled_programs(pytestconfig: pytest.Config) -> None:
    compiled_programs.keep(pytestconfig)


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The checkpoint of that name in `checkpoints.MAKERS`, made when it is first asked for."""

    @cache
    def make(name: str) -> Path:
        return MAKERS[name](tmp_path_factory.mktemp(name))

    return make


@pytest.fixture(scope="session")
def reference(folder: Folders) -> References:
    """Transformers with the checkpoint of that name, or with the same in its own form where that lies beside it."""

    def theirs(path: Path) -> Path:
        return path / "transformers" if (path / "transformers").is_dir() else path

    return cache(lambda name: Reference(theirs(folder(name))))


@pytest.fixture(scope="session")
def open_llm(backend: str, folder: Folders) -> OpenLlm:
    """`LLM` on the backend under test, with a checkpoint of `checkpoints.MAKERS` by name or with any other model."""

    def build(model: str | Path, **options: Any) -> LLM:
        path = folder(model) if model in MAKERS else model
        settings: dict[str, Any] = {
            "backend": backend, "device": "cpu", "dtype": "float32", "kv_cache_memory": 4 << 20, **SETTINGS[backend]
        }  # fmt: skip
        return LLM(str(path), **(settings | options))

    return build


@pytest.fixture(scope="session")
def llava(open_llm: OpenLlm) -> Iterator[LLM]:
    """One engine for tests that need no options of their own."""
    with open_llm("clip-llama") as llm:
        yield llm

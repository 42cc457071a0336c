import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from aphrodite.backends.native.library import load_library


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that makes haste."""
    path = tmp_path_factory.mktemp("compiler") / "compiler"
    path.write_text('#!/bin/sh\nexec g++ "$@" -O0\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(compiler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine on which nothing was compiled yet."""
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


@pytest.fixture(scope="module")
def compiled(compiler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the library in it, which this process has not loaded."""
    cache = tmp_path_factory.mktemp("compiled")
    load_in_another_process(cache, CXX=str(compiler))
    return cache


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def load() -> ctypes.CDLL | None:
    """As a process does that asks for the first time."""
    return load_library.__wrapped__("kernels", "-fopenmp")


def load_in_another_process(cache: Path, **env: str) -> None:
    """As the next start does; a library that was cut short would end that process."""
    program = f"from {__name__} import load; assert hasattr(load(), 'attend_rows_float32')"
    search = [str(Path(__file__).parents[3]), *sys.path]
    env = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(search)} | env
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=120)


def test_what_was_compiled_is_kept(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hasattr(load(), "attend_rows_float32")
    (path,) = (tmp_path / "cache").rglob("*.so")
    before = path.stat()
    assert load() is not None
    assert path.stat() == before
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".sha256"), path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:4096],
        lambda whole: whole[:65536],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4096] + bytes(len(whole) - 4096),
    ],
    ids=["4 kB", "64 kB", "half", "a hole"],
)
def test_a_damaged_file_is_made_anew(
    machine: pytest.MonkeyPatch, compiled: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(compiled, tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("*.so")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    load_in_another_process(tmp_path / "cache")
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_to(machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    machine.setenv("XDG_CACHE_HOME", "/proc")
    assert hasattr(load(), "attend_rows_float32")
    (warning,) = warnings_of(caplog)
    assert "'/proc/aphrodite" in warning
    assert "set XDG_CACHE_HOME" in warning


def test_no_home(machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    machine.delenv("XDG_CACHE_HOME")
    machine.setenv("HOME", "~")
    assert hasattr(load(), "attend_rows_float32")
    (warning,) = warnings_of(caplog)
    assert "Could not determine home directory" in warning


def test_a_folder_that_nothing_can_be_run_from(
    machine: pytest.MonkeyPatch, compiled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a noexec mount does: the file is whole, and the system does not map it."""
    shutil.copytree(compiled, tmp_path / "cache")
    (tmp_path / "tmp").mkdir()
    machine.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (path,) = (tmp_path / "cache").rglob("*.so")
    path.write_bytes(b"nothing that can be mapped")
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    assert hasattr(load(), "attend_rows_float32")
    (warning,) = warnings_of(caplog)
    assert str(path) in warning
    assert list((tmp_path / "tmp").iterdir()) == []


def test_other_headers_or_options_make_another_library(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    headers = tmp_path / "include"
    shutil.copytree(jax.ffi.include_dir(), headers)

    def num_made(*options: str) -> int:
        assert load_library.__wrapped__("xla", *options, headers=headers) is not None
        return len(list((tmp_path / "cache").rglob("*.so")))

    assert [num_made(), num_made()] == [1, 1]
    assert num_made("-fno-associative-math") == 2  # which no macro tells
    header = headers / "xla" / "ffi" / "api" / "c_api.h"
    header.write_text(header.read_text() + "// of another version\n")
    assert num_made() == 3


def test_a_compiler_with_arguments(machine: pytest.MonkeyPatch, compiler: Path) -> None:
    machine.setenv("CXX", f"env {compiler} -DNAME='two words'")
    assert load() is not None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no-such-compiler", "No such file or directory: 'no-such-compiler'"),
        ("false", "returned non-zero exit status 1"),
        ("g++ -no-such-option", "error: unrecognized command-line option"),
        ("'", "No closing quotation"),
    ],
)
def test_none_and_one_line_that_says_why(
    machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, reason: str
) -> None:
    machine.setenv("CXX", value)
    assert load() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.count("\n") == 0
    assert reason in record.message


def test_no_compiler(machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    machine.delenv("CXX")
    machine.setenv("PATH", str(tmp_path))
    assert load() is None
    assert [record.message for record in caplog.records] == [
        "No C++ compiler was found: the CPU runs without C++ kernels, slower; install g++ or clang++."
    ]

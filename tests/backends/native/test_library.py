import ctypes
import logging
import shutil
from pathlib import Path

import jax
import pytest

from aphrodite.backends.native.library import load_library


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> pytest.MonkeyPatch:
    """A machine on which nothing was compiled yet, with a compiler that makes haste."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nexec g++ "$@" -O0\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    return monkeypatch


def load() -> ctypes.CDLL | None:
    """As a process does that asks for the first time."""
    return load_library.__wrapped__("kernels", "-fopenmp")


def test_what_was_compiled_is_kept(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hasattr(load(), "attend_rows_float32")
    (path,) = (tmp_path / "cache").rglob("*.so")
    before = path.stat()
    assert load() is not None
    assert path.stat() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_is_made_anew(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load() is not None
    (path,) = (tmp_path / "cache").rglob("*.so")
    damaged = tmp_path / "other" / path.relative_to(tmp_path / "cache")  # this process has the first one loaded
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not a library")
    machine.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert hasattr(load(), "attend_rows_float32")


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


def test_a_compiler_with_arguments(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setenv("CXX", f"env {tmp_path / 'compiler'} -DNAME='two words'")
    assert load() is not None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CXX", "no-such-compiler", "No such file or directory: 'no-such-compiler'"),
        ("CXX", "false", "returned non-zero exit status 1"),
        ("CXX", "g++ -no-such-option", "error: unrecognized command-line option"),
        ("CXX", "'", "No closing quotation"),
        ("XDG_CACHE_HOME", "/dev/null", "Not a directory: '/dev/null/aphrodite"),
        ("HOME", "~", "Could not determine home directory"),
    ],
)
def test_none_and_one_line_that_says_why(
    machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str, reason: str
) -> None:
    if name == "HOME":
        machine.delenv("XDG_CACHE_HOME")
    machine.setenv(name, value)
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

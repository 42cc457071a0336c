"""The C++ kernels as a shared library: compiled for this very processor when first needed, and kept."""

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent
_TIMEOUT_S = 120
# Sums may be reordered, which vector instructions need; infinities and NaN keep their meaning.
_MATH = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]
_OPTIONS = ["-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-fPIC", "-shared", *_MATH]


@cache
def load_library(name: str, *options: str, headers: Path | None = None) -> ctypes.CDLL | None:
    """The kernels of `name`.cpp, compiled with `options` more and with the headers of others in a folder.

    None, and a line in the log, where there is no C++ compiler or it fails.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        _log.warning("No C++ compiler was found: the CPU runs without C++ kernels, slower; install g++ or clang++.")
        return None
    try:
        return _load(shlex.split(compiler), name, [*_OPTIONS, *options], headers)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:  # those of paths and of CXX, too
        reason = _first_error(error)
        _log.warning("The C++ kernels could not be built, the CPU runs without them, which is slower: %s", reason)
        return None


def _load(compiler: list[str], name: str, options: list[str], headers: Path | None) -> ctypes.CDLL:
    path = _folder(compiler, options, headers) / f"{name}.so"
    try:
        return ctypes.CDLL(str(path))  # g++'s OpenMP is then the one that torch has loaded
    except OSError:  # it is not there yet, or damaged
        _compile([*compiler, *options, *([f"-I{headers}"] if headers else [])], path)
        return ctypes.CDLL(str(path))


def _folder(compiler: list[str], options: list[str], headers: Path | None) -> Path:
    """A folder for what this compiler makes of these sources and headers on this processor."""
    # What it defines of its own accord tells its version and every instruction that it may use here.
    digest = hashlib.sha256(_run([*compiler, *options, "-dM", "-E", "-x", "c++", os.devnull]).encode())
    digest.update(shlex.join(options).encode())
    others = sorted(headers.rglob("*.h")) if headers else []
    for source in [*sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]), *others]:
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "aphrodite" / "native" / digest.hexdigest()[:16]


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        _run([*compiler, str(_SOURCES / f"{path.stem}.cpp"), "-o", str(made)])
        with made.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave half of it, and loading that ends the process
        made.replace(path)  # at once: another process may be doing the same


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    return done.stdout


def _first_error(error: Exception) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = said.strip().splitlines() or [str(error)]
    return next((line for line in lines if "error" in line), lines[0])

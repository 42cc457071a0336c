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
    command = [*compiler, *options, *([f"-I{headers}"] if headers else [])]
    key = _key(compiler, options, headers)
    try:
        return _load_kept(_cache_folder() / key / f"{name}.so", command)
    except (OSError, RuntimeError) as error:  # read-only, mounted noexec, full, or there is no home
        with tempfile.TemporaryDirectory(prefix="aphrodite-native-") as folder:
            library = _load_kept(Path(folder) / f"{name}.so", command)
        _log.warning(
            "The C++ kernels cannot be kept, every start compiles them anew; set XDG_CACHE_HOME to a folder that files "
            "may be written to and run from: %s",
            error,
        )
        return library


def _load_kept(path: Path, command: list[str]) -> ctypes.CDLL:
    """The library at `path`, which `command` makes where it is missing or damaged."""
    if not _is_whole(path):
        _compile(command, path)
    return ctypes.CDLL(str(path))  # g++'s OpenMP is then the one that torch has loaded


def _is_whole(path: Path) -> bool:
    """Whether a library is what was compiled: one that was cut short would end the process when it is loaded."""
    try:
        return _digest_path(path).read_text() == _digest(path)
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _key(compiler: list[str], options: list[str], headers: Path | None) -> str:
    """Stands for what this compiler makes of these sources and headers on this processor."""
    # What it defines of its own accord tells its version and every instruction that it may use here.
    digest = hashlib.sha256(_run([*compiler, *options, "-dM", "-E", "-x", "c++", os.devnull]).encode())
    digest.update(shlex.join(options).encode())
    others = sorted(headers.rglob("*.h")) if headers else []
    for source in [*sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]), *others]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aphrodite" / "native"


def _compile(command: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        _log.info("Compiling the C++ kernels %s for this processor, once; that takes some seconds.", path.stem)
        _run([*command, str(_SOURCES / f"{path.stem}.cpp"), "-o", str(made)])
        _digest_path(made).write_text(_digest(made))
        # Each at once, as another process may be doing the same; between the two the library counts as damaged.
        made.replace(path)
        _digest_path(made).replace(_digest_path(path))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    return done.stdout


def _first_error(error: Exception) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = said.strip().splitlines() or [str(error)]
    return next((line for line in lines if "error" in line), lines[0])

"""Compiled programs, one a function and shape, and where they are kept between starts."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from aphrodite.cpus import num_cpus

_log = logging.getLogger(__name__)

_MAX_KEPT_BYTES = 4 << 30  # on disk; beyond, the programs that were not used for longest go

# On a CPU whose registers are as wide a matrix times a vector gains a third.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}

Name = tuple[str, int]  # of a function, and the bucket that it is compiled for


@dataclass(frozen=True, slots=True)
class Program:
    """A function with its arguments' shapes."""

    name: Name
    function: Callable[..., Any]
    arguments: tuple[Any, ...]  # jax.ShapeDtypeStruct in the place of arrays
    donated: tuple[int, ...] = ()  # arguments whose memory the results take over

    def lower(self) -> jax.stages.Lowered:
        return jax.jit(self.function, donate_argnums=self.donated).lower(*self.arguments)


class Programs:
    """What was compiled at warm-up; calling one never compiles."""

    def __init__(self, precision: str, platform: str) -> None:
        self.num_compiled = 0
        self.temporary_bytes = 0  # that the hungriest takes of each device beside its arguments and results
        self._precision = precision
        self._options = _CPU_OPTIONS if platform == "cpu" else None
        self._compiled: dict[Name, jax.stages.Compiled] = {}

    def compile(self, programs: Sequence[Program]) -> None:
        """Compile all that is missing, side by side, with a progress bar where somebody looks."""
        missing = [program for program in programs if program.name not in self._compiled]
        workers = min(len(missing), num_cpus())
        if not missing:
            return
        _log.info("Compiling %d programs, or reading them from the cache.", len(missing))
        bar = tqdm(total=len(missing), desc="Compiling", unit="program", disable=None, dynamic_ncols=True)
        with bar, ThreadPoolExecutor(workers) as pool:
            for program, compiled in zip(missing, pool.map(self._compile, missing), strict=True):
                self._compiled[program.name] = compiled
                self.num_compiled += 1
                self.temporary_bytes = max(self.temporary_bytes, _temporary_bytes(compiled))
                bar.update()

    def run(self, function: str, bucket: int, *arguments: Any) -> Any:
        return self._compiled[function, bucket](*arguments)

    def clear(self) -> None:
        self._compiled.clear()

    def _compile(self, program: Program) -> jax.stages.Compiled:
        with jax.default_matmul_precision(self._precision):
            return program.lower().compile(self._options)


def _temporary_bytes(compiled: jax.stages.Compiled) -> int:
    memory = compiled.memory_analysis()
    return 0 if memory is None else int(memory.temp_size_in_bytes)


def keep_compiled_programs() -> None:
    """Have jax keep compiled programs in $XDG_CACHE_HOME/aphrodite/xla, unless the user named another place to it.

    These are settings of the whole process: jax knows no others.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "aphrodite" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # With a limit jax also locks the folder: without, one process could read what another is still writing.
        if settings["jax_compilation_cache_max_size"] == -1:
            jax.config.update("jax_compilation_cache_max_size", _MAX_KEPT_BYTES)

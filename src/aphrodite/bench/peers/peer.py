"""This side of the pipe: one other library or backend, measured on the same prompts."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aphrodite import cpus, shape_caches
from aphrodite.bench.token_workload import TokenPrompt
from aphrodite.domain.errors import BackendError, ConfigError

LIBRARIES = {"transformers": "transformers_model", "vllm": "vllm_model"}  # any other name: a backend of ours
_WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class PeerRound:
    """What a peer made of one round's prompts."""

    seconds: float
    token_ids: list[list[int]]


def check_importable(name: str, python: Path | None) -> None:
    """Whether that interpreter, or else ours, can import a library; importing it may take a minute, this does not.

    Raises ConfigError.
    """
    python = python or Path(sys.executable)
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    try:
        found = subprocess.run([python, "-c", look], capture_output=True, check=False)
    except OSError as error:
        raise ConfigError(f"--compare-python cannot be run: {python}: {error.strerror}.") from error
    if found.returncode != 0:
        raise ConfigError(
            f"--compare {name}: {python} cannot import it; name an interpreter that can with --compare-python."
        )


class Peer:
    """A process with a model loaded, from `with` on; it is stopped while others are measured.

    `settings` are what its file in this folder reads: model (a folder), dtype, device, max_num_seqs, max_model_len,
    gpu_memory_utilization, images_per_prompt, image_token_id; for a backend of ours engine, which are the arguments of
    `LLM`.

    Raises ConfigError when it cannot be started, BackendError when it fails later.
    """

    def __init__(self, name: str, dtype: str, python: Path | None, settings: dict[str, Any]) -> None:
        self.name = name
        self.dtype = dtype
        self.versions: dict[str, str] = {}
        self._python = python if python is not None and name in LIBRARIES else Path(sys.executable)
        self._settings = settings

    def __enter__(self) -> Self:
        # Kept for the sentence about a process that ended without one of its own.
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [self._python, _WORKER, LIBRARIES.get(self.name, "aphrodite_model")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=self._environment(),
            start_new_session=True,  # so that `close` ends what it starts as well
        )
        try:
            self.versions = self._exchange(self._settings)["versions"]
        except BackendError as error:
            self.close()
            raise ConfigError(str(error)) from None
        self._signal(signal.SIGSTOP)
        return self

    def run(self, prompts: list[TokenPrompt], expanded: list[list[int]]) -> PeerRound:
        """Answer all prompts; the seconds are the peer's own, without those of the pipe.

        `expanded` are the prompts' token ids with all that stands for a picture, for who does not write that itself.
        """
        self._signal(signal.SIGCONT)
        answer = self._exchange([_message(*pair) for pair in zip(prompts, expanded, strict=True)])
        self._signal(signal.SIGSTOP)
        return PeerRound(answer["seconds"], answer["token_ids"])

    def close(self) -> None:
        """End the process, and those that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._signal(signal.SIGCONT)
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(20)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        """To the process and to all that it started: vLLM's wait for work in a loop that takes a core from others."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _exchange(self, message: Any) -> dict[str, Any]:
        """A line there, a line back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # it ended before it had read all
            line = ""
        if not line:
            raise BackendError(f"--compare {self.name}: its process ended; the last it said: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(f"--compare {self.name} failed: {answer['error']}{self._cause(answer['error'])}")
        return answer

    def _cause(self, error: str) -> str:
        """The first error in its log, where that is another: that of a process below it, say."""
        self._log.seek(0)
        found = re.search(r"\b\w+Error: .+", self._log.read())
        return f" First in its log: {found[0][:300]}" if found and " ".join(found[0].split())[:60] not in error else ""

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")

    def _environment(self) -> dict[str, str]:
        """Ours, so that threads are as many, but how they wait and what libraries keep is the peer's own affair; vLLM
        on a CPU is told to use all cores, of which it else leaves one idle.

        It is also given Intel's OpenMP where that is installed beside it, as its documentation advises.
        """
        environment = dict(os.environ)
        for name, value in {**shape_caches.SETTINGS, "GOMP_SPINCOUNT": cpus.settings().get("GOMP_SPINCOUNT")}.items():
            if environment.get(name) == value:
                environment.pop(name, None)
        if self.name == "vllm":
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
            environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores)))
            library = self._python.absolute().parent.parent / "lib" / "libiomp5.so"
            if library.is_file():
                environment["LD_PRELOAD"] = ":".join(filter(None, (str(library), environment.get("LD_PRELOAD"))))
        return environment


def _message(prompt: TokenPrompt, expanded_token_ids: list[int]) -> dict[str, Any]:
    picture = prompt.picture and {
        "rgb": base64.b64encode(prompt.picture.tobytes()).decode(),
        "size": prompt.picture.size,
    }
    return {
        "token_ids": prompt.token_ids,
        "expanded_token_ids": expanded_token_ids,
        "num_output_tokens": prompt.num_output_tokens,
        "picture": picture,
    }

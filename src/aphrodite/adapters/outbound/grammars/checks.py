"""Whether a form can be compiled at all, found out in a process that may be lost.

A few words of a form can take the compiler seconds, gigabytes, or deeper than a stack goes, which ends a process. So a
process of its own compiles each form first, once and for nothing. What it took is what the engine's process will take.
"""

import os
import pickle
import resource
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from aphrodite.adapters.outbound.grammars.compiler import GROWTH_BYTES, compile_grammar, load_tokenizer
from aphrodite.adapters.outbound.grammars.notation import grammar_of
from aphrodite.adapters.outbound.processes.frames import encode_frame, receive
from aphrodite.adapters.outbound.processes.limits import data_bytes, end_with_parent, limit_cpu, limit_data
from aphrodite.adapters.outbound.processes.nursery import Nursery, Serve
from aphrodite.domain.errors import FormError, WorkerError
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_TIMEOUT_S = 30.0  # of CPU time there is less
_START_TIMEOUT_S = 30.0
_CPU_S = 5.0
_MAX_BYTES = 96 * 2**20
_STACK_SHARE = 4  # the engine's threads have so many times as much to recurse in
_UNLIMITED_STACK_BYTES = 2 * 2**20  # what glibc gives a thread where the stack has no limit


class Passed(msgspec.Struct, tag="passed", frozen=True):
    """The form in the compiler's notation, and the most memory that it takes compiled and followed."""

    grammar: str
    num_bytes: int


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """A FormError's sentence."""

    sentence: str


Answer = Passed | Refused

_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class FormChecks:
    """The engine's side. Thread-safe; the processes are started with the first form."""

    def __init__(self, tokenizer_definition: str, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._load = partial(_prepare, tokenizer_definition, vocab_size, eos_token_ids)
        self._starting = threading.Lock()
        self._nursery: Nursery | None = None

    def run(self, form: StructuredOutputs) -> CheckedForm:
        """Raises FormError, and WorkerError when there is no process that could tell."""
        with self._new_worker() as worker:
            try:
                worker.sendall(encode_frame(pickle.dumps(form)))
                answer = receive(worker)
            except OSError:
                answer = None
        if answer is None and (self._nursery is None or self._nursery.has_ended):
            raise WorkerError("The process that checks forms has ended; ask again.")  # the form is not to blame
        if answer is None:
            raise FormError(_too_costly(form))
        outcome = _decoder.decode(answer)
        if isinstance(outcome, Refused):
            raise FormError(outcome.sentence)
        return CheckedForm(form, outcome.grammar, outcome.num_bytes)

    def close(self) -> None:
        """End the processes; forms that are being checked are refused."""
        with self._starting:
            if self._nursery is not None:
                self._nursery.close()
                self._nursery = None

    def _new_worker(self) -> socket.socket:
        """The socket to a worker that waits for its form. Raises WorkerError."""
        worker: socket.socket | None = None
        try:
            with self._starting:
                if self._nursery is not None and self._nursery.has_ended:
                    self._nursery.close()
                    self._nursery = None
                if self._nursery is None:
                    self._nursery = Nursery.start(self._load)
                worker = self._nursery.fork()
            worker.settimeout(_START_TIMEOUT_S)
            if receive(worker) is None:
                raise EOFError
            worker.settimeout(_TIMEOUT_S)
        except (OSError, EOFError) as error:
            if worker is not None:
                worker.close()
            if isinstance(error, TimeoutError):
                self.close()  # it hangs: the next form gets another
            raise WorkerError("No process that checks forms can be started; the server's log says why.") from error
        return worker


def _prepare(tokenizer_definition: str, vocab_size: int, eos_token_ids: Sequence[int]) -> Serve:
    return partial(_serve, load_tokenizer(tokenizer_definition, vocab_size, eos_token_ids))


def _serve(tokenizer: "LLTokenizer", channel: socket.socket) -> None:
    """Check one form, in a thread whose stack is known."""
    end_with_parent()
    channel.sendall(encode_frame(b""))
    form = receive(channel)
    if form is None:
        return
    answers: list[Answer] = []
    threading.stack_size(_stack_bytes())
    thread = threading.Thread(target=lambda: answers.append(_check(tokenizer, pickle.loads(form))))
    thread.start()
    thread.join()
    for answer in answers:  # none after an exception that is in the log now
        channel.sendall(encode_frame(msgspec.msgpack.encode(answer)))


def _check(tokenizer: "LLTokenizer", form: StructuredOutputs) -> Answer:
    limit_cpu(_CPU_S)
    if (before := data_bytes()) is not None:
        limit_data(before + _MAX_BYTES)
    try:
        grammar = grammar_of(form)
        first_bytes = data_bytes() or 0
        with _silence():
            compiled = compile_grammar(tokenizer, form, grammar)  # kept while its memory is counted
        num_bytes = (data_bytes() or 0) - first_bytes
        del compiled
        return Passed(grammar, max(0, num_bytes) + GROWTH_BYTES)
    except FormError as error:
        return Refused(str(error))
    except MemoryError:
        return Refused(_too_costly(form))


def _too_costly(form: StructuredOutputs) -> str:
    return (
        f"structured_outputs.{form.kind} cannot be followed: it takes too much time or memory to compile, or leads "
        "through too many references in a row."
    )


def _stack_bytes() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    whole = _UNLIMITED_STACK_BYTES if soft == resource.RLIM_INFINITY else soft
    return whole // _STACK_SHARE // resource.getpagesize() * resource.getpagesize()


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the compiler prints when it runs out of memory: the log is not for strangers to fill."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)

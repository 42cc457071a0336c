"""The parent of processes that may be lost: it loads once what they work with, and forks them in milliseconds each.

    server ── nursery ─┬─ worker
                       └─ worker     each with a socket to the server

It is a program of its own, `python -m`, and not a fork of the server: the server has threads, and keys in its memory.
"""

import contextlib
import gc
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, Self

from aphrodite.adapters.outbound.processes.frames import encode_frame, receive

_NICENESS = 5  # text goes first: it is short

Serve = Callable[[socket.socket], None]
"""What a worker does with its socket to the server."""


class Nursery:
    """The server's side of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        self._process = process
        self._control = control

    @classmethod
    def start(cls, load: Callable[[], Serve]) -> Self:
        """`load`, which is picklable, is called there. Raises OSError."""
        # No keys of the server, and no thread but the one that forks.
        own = {name: value for name, value in os.environ.items() if not name.startswith("APHRODITE_")}
        own |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        here, there = socket.socketpair()
        with there, contextlib.ExitStack() as stack:
            stack.enter_context(here)
            command = (sys.executable, "-P", "-m", __name__, str(there.fileno()))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=own, pass_fds=[there.fileno()])
            stack.pop_all()
        here.sendall(encode_frame(pickle.dumps(load)))
        return cls(process, here)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def fork(self) -> socket.socket:
        """The socket to a new worker, who sees when it is closed. Raises OSError when the nursery has ended."""
        here, there = socket.socketpair()
        with there, contextlib.ExitStack() as stack:
            stack.enter_context(here)
            socket.send_fds(self._control, [b"\0"], [there.fileno()])
            stack.pop_all()
        return here

    def close(self) -> None:
        """End it; workers go on until their sockets are closed."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def main(control: socket.socket) -> None:
    """The first frame of the server is what loads; then come the sockets of workers to be forked."""
    instructions = receive(control)
    if instructions is None:
        return
    serve: Serve = pickle.loads(instructions)()
    gc.collect()
    gc.freeze()  # what workers share stays shared
    # Ctrl-C and a service manager's SIGTERM reach the whole group; it is the server who decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:  # the server is gone
            return
        channel = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            _run_worker(channel, serve)
        channel.close()


def _run_worker(channel: socket.socket, serve: Serve) -> NoReturn:
    try:
        os.nice(_NICENESS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        serve(channel)
    except ConnectionError:  # the server is gone, or waits no more
        pass
    except Exception:  # noqa: BLE001 - the server sees that the worker has ended; its log says why
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

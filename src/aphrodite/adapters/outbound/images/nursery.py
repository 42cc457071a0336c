"""The parent of the processes that decode: it loads the image processor once and forks workers, in milliseconds each.

    server ── nursery ─┬─ worker
                       └─ worker     each with a socket to the server

It is a program of its own, `python -m`, and not a fork of the server: the server has threads, and keys in its memory.
"""

import gc
import os
import pickle
import signal
import socket
import sys
import traceback
from typing import NoReturn

from aphrodite.adapters.outbound.images.messages import receive
from aphrodite.adapters.outbound.images.processing import ImageProcessing
from aphrodite.adapters.outbound.images.worker import serve


def main(control: socket.socket) -> None:
    """The first frame of the server is what is to be done, pickled; then come the sockets of workers to be forked."""
    instructions = receive(control)
    if instructions is None:
        return
    load, max_pixels = pickle.loads(instructions)
    processing = load()
    gc.collect()
    gc.freeze()  # what workers share stays shared
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
            _run_worker(channel, processing, max_pixels)
        channel.close()


def _run_worker(channel: socket.socket, processing: ImageProcessing, max_pixels: int) -> NoReturn:
    try:
        serve(channel, processing, max_pixels)
    except ConnectionError:  # the server is gone, or waits no more
        pass
    except Exception:  # noqa: BLE001 - the server sees that the worker has ended; its log says why
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

"""The socket that clients come to: an address and port, or a Unix socket's path."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aphrodite.domain.config import ServerConfig
from aphrodite.domain.errors import ConfigError


@contextmanager
def bound_socket(server: ServerConfig) -> Iterator[socket.socket]:
    """Take the address at once, to hear early of one that is taken. Raises ConfigError."""
    if server.uds is None:
        with _bind(server.host, server.port) as listener:
            yield listener
        return
    with _bind_path(server.uds) as listener:
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                os.unlink(server.uds)


def listen(listener: socket.socket, server: ServerConfig) -> str:
    """Let clients in; the address to come to. Raises ConfigError where one that was starting beside us was faster."""
    try:
        listener.listen()
    except OSError as error:
        raise _cannot_listen(server.host, server.port, error) from error
    if server.uds is not None:
        return f"unix:{server.uds}"
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if server.ssl_certfile else 'http'}://{shown}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    return listener


def _bind_path(path: str) -> socket.socket:
    """In the place of a socket that nobody listens at any more."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                if caller.connect_ex(path) == 0:
                    raise ConfigError(f"Cannot listen on {path}, where another server does; choose another --uds.")
            os.unlink(path)
        listener.bind(path)
    except OSError as error:  # without a word where the path is too long for a socket
        listener.close()
        raise ConfigError(f"Cannot listen on {path}: {error.strerror or 'the path is too long'}.") from error
    except ConfigError:
        listener.close()
        raise
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Cannot listen on {host} port {port}, which is in use; choose another, as --port {port % 65535 + 1}, or "
            "--port 0 for any free one."
        )
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    return ConfigError(f"Cannot listen on {host} port {port}: {reason}.")

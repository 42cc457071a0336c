"""Addresses as they are written in URLs."""

import socket
from urllib.parse import urlsplit

import pytest

from aphrodite.adapters.inbound.http.listening import bound_socket, listen
from aphrodite.domain.config import ServerConfig


@pytest.mark.parametrize(("host", "shown"), [("::1", "http://[::1]:"), ("127.0.0.1", "http://127.0.0.1:")])
def test_the_address_is_one_to_come_to(host: str, shown: str) -> None:
    server = ServerConfig(host=host, port=0)
    with bound_socket(server) as listener:
        address = listen(listener, server)
        assert address.startswith(shown)
        parts = urlsplit(address)
        assert parts.hostname == host
        assert parts.port is not None
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()

"""Connections to checked addresses only.

    host name -> resolved once -> every address checked -> connected to one of exactly these

This is the only way from a download to the network, so a name that changes its answer between check and connection,
a redirect and an address written into the URL all meet the same check. A name with even one closed address is refused
as a whole: a mixed answer is the mark of rebinding, not of an image host.
"""

import asyncio
import socket
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import httpcore2

from aphrodite.adapters.outbound.images.addresses import is_public
from aphrodite.domain.errors import ImageForbiddenError, ImageUnreachableError

_MAX_ADDRESSES_TRIED = 4


class Resolver(Protocol):
    """Host names to addresses."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, the best first. Raises OSError where there are none."""


class SystemResolver:
    """The resolver of the operating system, on threads of the caller's."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(
            self._executor, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(answer[4][0]) for answer in answers]


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections for the HTTP client: resolves, checks, connects to what was checked."""

    def __init__(self, resolver: Resolver, allowed_hosts: Collection[str], connect_timeout_s: float) -> None:
        self._resolver = resolver
        self._allowed_hosts = allowed_hosts
        self._connect_timeout_s = connect_timeout_s  # shared by the addresses of a host
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the client's signature
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """Raises ImageForbiddenError for a host at a closed address and ImageUnreachableError when none answers."""
        addresses = await self._resolve(host, port)
        if host not in self._allowed_hosts and not all(is_public(address) for address in addresses):
            # What the addresses are is not said: it would let strangers read the names of an internal network.
            raise ImageForbiddenError(
                f"The image host {host} is not allowed: it is not at a public address. "
                "An operator can allow it with --allowed-image-hosts."
            )
        tried = addresses[:_MAX_ADDRESSES_TRIED]
        last_error: Exception | None = None
        for address in tried:
            try:
                return await self._sockets.connect_tcp(str(address), port, self._connect_timeout_s / len(tried))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last_error = error
        raise ImageUnreachableError(f"The image host {host} cannot be reached on port {port}.") from last_error

    async def _resolve(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        try:
            return [ip_address(host)]
        except ValueError:
            pass  # a name
        try:
            answers = await self._resolver(host, port)
            addresses = [ip_address(answer) for answer in dict.fromkeys(answers)]
        except (OSError, ValueError) as error:
            raise ImageUnreachableError(f"The image host {host} cannot be found.") from error
        if not addresses:
            raise ImageUnreachableError(f"The image host {host} has no address.")
        return addresses

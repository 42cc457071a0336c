"""One image over HTTP: a connection of its own, a bounded answer, redirects checked like the first URL.

httpcore2 is the part of httpx2 that speaks HTTP and nothing else: it takes the URL in parts, so no second parser reads
it, and knows no proxies from the environment, cookies, redirects or decompression that would have to be turned off.
"""

import asyncio
import ssl

import httpcore2

from aphrodite.adapters.outbound.images.limits import check_num_bytes
from aphrodite.adapters.outbound.images.urls import HttpUrl
from aphrodite.domain.errors import (
    ImageForbiddenError,
    ImageStatusError,
    ImageUnreachableError,
    ImageUrlError,
)

_HEADERS: dict[bytes | str, bytes | str] = {
    "User-Agent": "Aphrodite (vision-language model server)",
    "Accept": "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff, */*;q=0.1",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNKS_A_TURN = 64


class Downloader:
    """Fetches http(s) URLs through `network`, which decides where connections may go."""

    def __init__(
        self,
        network: httpcore2.AsyncNetworkBackend,
        ssl_context: ssl.SSLContext,
        *,
        max_bytes: int,
        max_redirects: int,
    ) -> None:
        self._network = network
        self._ssl_context = ssl_context
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects

    async def download(self, url: HttpUrl) -> bytes:
        """The body behind a URL. Keeps no time: put a deadline around it.

        Raises an ImageFetchError, or ImageTooLargeError for a body above the limit.
        """
        for _ in range(self._max_redirects + 1):
            answer = await self._get(url)
            if isinstance(answer, bytes):
                return answer
            url = url.join(answer)
        if self._max_redirects == 0:
            raise ImageForbiddenError(
                "The image URL redirects to another one, which this server does not follow; pass the final URL. "
                "An operator can allow it with --image-max-redirects."
            )
        raise ImageForbiddenError(f"The image URL redirects more than {self._max_redirects} times.")

    async def _get(self, url: HttpUrl) -> bytes | str:
        """The body, or the location of a redirect."""
        request = httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        connection = httpcore2.AsyncHTTPConnection(
            request.origin, ssl_context=self._ssl_context, network_backend=self._network
        )
        try:
            async with connection.stream("GET", request, headers={"Host": url.authority, **_HEADERS}) as response:
                return await self._read(response, url.host)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
            raise _unreachable(error, url.host) from error
        finally:
            await connection.aclose()

    async def _read(self, response: httpcore2.Response, host: str) -> bytes | str:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS:
            return _location(headers)
        if response.status != 200:
            raise ImageStatusError(_status_sentence(response.status, host))
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            # Not asked for, and images are compressed already: nobody but the author of a bomb sends this.
            raise ImageForbiddenError(f"The image host {host} compressed its answer; images are taken as they are.")
        check_num_bytes(int(headers.get(b"content-length", b"0")), self._max_bytes)
        body = bytearray()
        num_chunks = 0
        async for chunk in response.aiter_stream():
            check_num_bytes(len(body) + len(chunk), self._max_bytes)
            body += chunk
            num_chunks += 1
            if num_chunks % _CHUNKS_A_TURN == 0:
                await asyncio.sleep(0)  # one read may hold ten thousand tiny chunks; the others need their turn
        return bytes(body)


def _location(headers: dict[bytes, bytes]) -> str:
    try:
        return headers[b"location"].decode("utf-8")
    except (KeyError, UnicodeDecodeError) as error:
        raise ImageUrlError("The image URL redirects without saying where to.") from error


def _status_sentence(status: int, host: str) -> str:
    if status == 404:
        return f"There is no image at this URL: {host} answered 404, not found."
    return f"The image host {host} answered with the HTTP status {status} instead of an image."


def _unreachable(error: Exception, host: str) -> ImageUnreachableError:
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return ImageUnreachableError(f"The certificate of the image host {host} could not be verified.")
    if isinstance(error, httpcore2.ConnectError):
        return ImageUnreachableError(f"No secure connection to the image host {host} could be made.")
    if isinstance(error, httpcore2.ProtocolError):
        return ImageUnreachableError(f"The image host {host} sent an answer that is broken or cut short.")
    return ImageUnreachableError(f"The connection to the image host {host} broke off.")

"""Fetching from a server that is slow, endless, lying, dropping or redirecting."""

import asyncio
import base64
import gzip
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from aphrodite.adapters.outbound.images.fetching import UrlImageFetcher
from aphrodite.domain.errors import (
    ImageError,
    ImageForbiddenError,
    ImageStatusError,
    ImageTimeoutError,
    ImageTooLargeError,
    ImageUnreachableError,
    ImageUrlError,
)

pytestmark = pytest.mark.anyio

MakeFetcher = Callable[..., UrlImageFetcher]
OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=images.test "
    "-addext subjectAltName=DNS:images.test -keyout key.pem -out certificate.pem"
)
Server = Any  # conftest's ImageServer, which no test can import


def sends(*pieces: bytes, pause_s: float = 0, then_s: float = 0) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def route(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.sleep(then_s)

    return route


async def forever(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_bytes_arrive_and_the_request_is_modest(server: Server, make_fetcher: MakeFetcher) -> None:
    server.answer("/a.png?b=%20c", b"bytes")
    assert await make_fetcher().fetch(server.url("/a.png?b=%20c#part")) == b"bytes"
    head = server.heads[0].lower()
    assert f"host: images.test:{server.port}\r\n" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


async def test_chunks_and_answers_that_end_with_the_connection(server: Server, make_fetcher: MakeFetcher) -> None:
    server.routes["/chunked"] = sends(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 300, b"0\r\n\r\n"
    )
    server.routes["/old"] = sends(b"HTTP/1.0 200 OK\r\n\r\n", b"abc", b"def")
    server.routes["/hints"] = sends(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    fetcher = make_fetcher()
    assert await fetcher.fetch(server.url("/chunked")) == b"x" * 300
    assert await fetcher.fetch(server.url("/old")) == b"abcdef"
    assert await fetcher.fetch(server.url("/hints")) == b"x"


async def test_ipv6(resolver: Any, make_fetcher: MakeFetcher, server: Server) -> None:
    six = type(server)()
    try:
        await six.start("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    six.answer("/", b"six")
    resolver.answers["images.test"] = ["::1"]
    assert await make_fetcher().fetch(six.url("")) == b"six"
    assert await make_fetcher(allowed_hosts=frozenset({"::1"})).fetch(f"http://[0:0::1]:{six.port}/") == b"six"
    assert "Host: [::1]:" in six.heads[-1]
    await six.stop()


async def test_the_next_address_is_tried(server: Server, resolver: Any, make_fetcher: MakeFetcher) -> None:
    server.answer("/", b"bytes")
    resolver.answers["images.test"] = ["127.0.0.2", "127.0.0.1"]  # the server listens at the second only
    assert await make_fetcher().fetch(server.url("/")) == b"bytes"


async def test_proxies_of_the_environment_are_not_used(
    server: Server, make_fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answer("/", b"bytes")
    assert await make_fetcher().fetch(server.url("/")) == b"bytes"


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "403 No", "204 None", "206 Part", "304 Same"])
async def test_other_statuses(status: str, server: Server, make_fetcher: MakeFetcher) -> None:
    server.answer("/a.png", b"words of a stranger", status)
    with pytest.raises(ImageStatusError, match=f"images.test answered .*{status[:3]}") as caught:
        await make_fetcher().fetch(server.url("/a.png"))
    assert status[4:] not in str(caught.value)
    assert ("no image at this URL" in str(caught.value)) == status.startswith("404")


async def test_too_large(server: Server, make_fetcher: MakeFetcher) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    server.routes["/honest"] = sends(head % 101, then_s=30)
    server.routes["/endless"] = forever
    server.routes["/chunked"] = sends(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ffffffff\r\n", b"x" * 102, then_s=30
    )
    server.answer("/just", b"x" * 100)
    fetcher = make_fetcher(max_image_bytes=100)
    for path in ("/honest", "/endless", "/chunked"):
        with pytest.raises(ImageTooLargeError, match=r"larger than 100 bytes.*--max-image-bytes"):
            await fetcher.fetch(server.url(path))
    assert await fetcher.fetch(server.url("/just")) == b"x" * 100


async def test_a_gzip_bomb_is_not_unpacked(server: Server, make_fetcher: MakeFetcher) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    for encoding in ("gzip", "GZIP", "br", "zstd", "deflate", "identity, gzip"):
        server.answer("/bomb", bomb, headers=[f"Content-Encoding: {encoding}"])
        with pytest.raises(ImageForbiddenError, match="compressed its answer"):
            await make_fetcher().fetch(server.url("/bomb"))
    server.answer("/plain", b"x", headers=["Content-Encoding: Identity"])
    assert await make_fetcher().fetch(server.url("/plain")) == b"x"


@pytest.mark.parametrize(
    "route",
    [
        sends(then_s=30),  # nothing
        sends(b"HTTP/1.1 200 OK\r\n", then_s=30),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[b"x"] * 500, pause_s=0.02),  # a drop at a time
        sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 500, pause_s=0.02),
    ],
)
async def test_the_timeout_is_for_the_whole_fetch(route: Any, server: Server, make_fetcher: MakeFetcher) -> None:
    server.routes["/slow"] = route
    start_s = time.monotonic()
    with pytest.raises(ImageTimeoutError, match=r"within 0\.2 seconds.*APHRODITE_IMAGE_FETCH_TIMEOUT"):
        await make_fetcher(timeout_s=0.2).fetch(server.url("/slow"))
    assert time.monotonic() - start_s < 2
    await until(lambda: server.num_open == 0)


async def test_redirects_do_not_restart_the_clock(server: Server, make_fetcher: MakeFetcher) -> None:
    hop = f"HTTP/1.1 302 Found\r\nLocation: {server.url('/hop')}\r\nContent-Length: 0\r\n\r\n".encode()
    server.routes["/hop"] = sends(b"", hop, pause_s=0.1)
    with pytest.raises(ImageTimeoutError):
        await make_fetcher(timeout_s=0.3, max_redirects=1000).fetch(server.url("/hop"))
    assert server.requests["/hop"] < 5


async def test_a_slow_resolver_meets_the_deadline(make_fetcher: MakeFetcher, resolver: Any) -> None:
    resolver.delay_s = 30
    with pytest.raises(ImageTimeoutError):
        await make_fetcher(timeout_s=0.1).fetch("http://images.test/")


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"HTTP/1.1 200 OK\r\nContent-Len"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"],  # lies, and drops
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"],
        [b"HTTP/1.1 two hundred\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"y" * 200_000],
        [b"\x16\x03\x01\x00\xff" * 30],
    ],
)
async def test_answers_that_are_broken_or_cut_short(
    pieces: list[bytes], server: Server, make_fetcher: MakeFetcher
) -> None:
    server.routes["/"] = sends(*pieces)
    with pytest.raises(ImageUnreachableError, match=r"image host images\.test") as caught:
        await make_fetcher().fetch(server.url("/"))
    assert caught.value.__cause__ is not None
    assert str(caught.value.__cause__) not in str(caught.value)


async def test_a_body_longer_than_it_says_is_cut(server: Server, make_fetcher: MakeFetcher) -> None:
    server.routes["/"] = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdefgh")
    assert await make_fetcher().fetch(server.url("/")) == b"abc"


async def test_a_reset_connection(server: Server, make_fetcher: MakeFetcher) -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    server.routes["/"] = reset
    with pytest.raises(ImageUnreachableError):
        await make_fetcher().fetch(server.url("/"))


async def test_nobody_there(server: Server, make_fetcher: MakeFetcher) -> None:
    await server.stop()
    with pytest.raises(ImageUnreachableError, match=f"images.test cannot be reached on port {server.port}"):
        await make_fetcher().fetch(server.url("/"))
    with pytest.raises(ImageUnreachableError, match=r"nowhere\.test cannot be found") as caught:
        await make_fetcher().fetch("http://nowhere.test/")
    assert "foreign words" not in str(caught.value)


async def test_redirects(server: Server, make_fetcher: MakeFetcher) -> None:
    server.answer("/end", b"bytes")
    server.answer("/two", b"", "308 There", ["Location: /end"])
    server.answer("/one", b"", "302 There", [f"Location: {server.url('/two')}"])
    with pytest.raises(ImageForbiddenError, match=r"redirects to another one.*--image-max-redirects"):
        await make_fetcher().fetch(server.url("/one"))
    with pytest.raises(ImageForbiddenError, match="more than 1 times"):
        await make_fetcher(max_redirects=1).fetch(server.url("/one"))
    assert await make_fetcher(max_redirects=2).fetch(server.url("/one")) == b"bytes"
    server.answer("/loop", b"", "301 There", ["Location: loop"])
    with pytest.raises(ImageForbiddenError, match="more than 5 times"):
        await make_fetcher(max_redirects=5).fetch(server.url("/loop"))
    server.answer("/nowhere", b"", "303 There")
    with pytest.raises(ImageUrlError, match="without saying where"):
        await make_fetcher(max_redirects=5).fetch(server.url("/nowhere"))


async def test_equal_urls_share_one_download(server: Server, make_fetcher: MakeFetcher) -> None:
    gate = asyncio.Event()

    async def gated(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")

    server.routes["/a.png"] = gated
    fetcher = make_fetcher()
    urls = [server.url("/a.png"), server.url("/a.png#x"), server.url("/a.png").upper().replace("A.PNG", "a.png")]
    fetches = [asyncio.ensure_future(fetcher.fetch(url)) for url in urls * 10]
    await until(lambda: server.num_open == 1)
    fetches[0].cancel()  # the one that began the download
    fetches[7].cancel()
    await asyncio.sleep(0.02)
    gate.set()
    results = await asyncio.gather(*fetches, return_exceptions=True)
    assert [type(result) for result in results].count(asyncio.CancelledError) == 2
    assert [result for result in results if isinstance(result, bytes)] == [b"bytes"] * 28
    assert server.requests["/a.png"] == 1
    assert await fetcher.fetch(urls[0]) == b"bytes"  # later ones ask again: what is at a URL may change
    assert server.requests["/a.png"] == 2


async def test_a_download_that_nobody_waits_for_ends(server: Server, make_fetcher: MakeFetcher) -> None:
    server.routes["/slow"] = sends(then_s=30)
    fetcher = make_fetcher()
    fetches = [asyncio.ensure_future(fetcher.fetch(server.url("/slow"))) for _ in range(3)]
    await until(lambda: server.num_open == 1)
    for fetch in fetches:
        fetch.cancel()
    server.answer("/slow", b"again")
    await asyncio.wait(fetches)
    assert await fetcher.fetch(server.url("/slow")) == b"again"  # a new download, not the dying one
    assert len(fetcher._downloads) == 0


async def test_all_waiters_get_the_error(server: Server, make_fetcher: MakeFetcher) -> None:
    server.routes["/"] = sends(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    fetcher = make_fetcher()
    results = await asyncio.gather(*[fetcher.fetch(server.url("/")) for _ in range(5)], return_exceptions=True)
    assert [type(result) for result in results] == [ImageStatusError] * 5


async def test_all_files_in_memory_are_bounded(server: Server, make_fetcher: MakeFetcher, tmp_path: Path) -> None:
    """Those that are being fetched, and those that wait for whoever reads them."""
    for number in range(40):
        server.answer(f"/{number}", b"x" * 100)
    (tmp_path / "a.png").write_bytes(b"y" * 100)
    fetcher = make_fetcher(max_image_bytes=100, allowed_local_media_path=tmp_path)
    urls = [server.url(f"/{number}") for number in range(40)] + [(tmp_path / "a.png").as_uri()] * 40
    held, most, is_read = 0, 0, asyncio.Event()

    async def read(url: str) -> None:
        nonlocal held, most
        async with fetcher.hold(url) as data:
            held += len(data)
            most = max(most, held)
            await is_read.wait()
            held -= len(data)

    readers = [asyncio.ensure_future(read(url)) for url in urls]
    await until(lambda: held == 1600)  # the memory of sixteen of the largest
    async with fetcher.hold("data:image/png;base64,aGk=") as data:
        assert data == b"hi"  # it is in memory already
    is_read.set()
    await asyncio.gather(*readers)
    assert most == 1600
    assert (held, sum(server.requests.values())) == (0, 40)


async def test_small_files_give_back_the_memory_that_they_do_not_need(
    server: Server, make_fetcher: MakeFetcher
) -> None:
    for number in range(200):
        server.answer(f"/{number}", b"x" * 7)
    fetcher = make_fetcher(max_image_bytes=100)
    async with AsyncExitStack() as stack:
        for number in range(200):
            assert await stack.enter_async_context(fetcher.hold(server.url(f"/{number}"))) == b"x" * 7


async def test_tls_checks_the_name_and_not_the_address(
    server: Server, make_fetcher: MakeFetcher, resolver: Any, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=images.test",
            "-addext",
            "subjectAltName=DNS:images.test",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure = type(server)()
    await secure.start(tls=context)
    secure.answer("/", b"secret")
    trusting = ssl.create_default_context(cafile=str(certificate))
    hosts = frozenset({"images.test", "other.test"})
    resolver.answers["other.test"] = ["127.0.0.1"]

    fetcher = make_fetcher(trusting, allowed_hosts=hosts)
    assert await fetcher.fetch(secure.url("/", scheme="https")) == b"secret"
    with pytest.raises(ImageUnreachableError, match=r"certificate of the image host other\.test could not be verified"):
        await fetcher.fetch(secure.url("/", host="other.test", scheme="https"))
    with pytest.raises(ImageUnreachableError, match="certificate"):
        await make_fetcher().fetch(secure.url("/", scheme="https"))  # trusts nobody
    server.answer("/", b"no TLS")
    with pytest.raises(ImageUnreachableError, match="No secure connection"):
        await make_fetcher(trusting).fetch(server.url("/", scheme="https"))
    await secure.stop()


async def test_data_and_other_schemes(make_fetcher: MakeFetcher, tmp_path: Path) -> None:
    fetcher = make_fetcher(max_image_bytes=100, allowed_local_media_path=tmp_path)
    (tmp_path / "a.png").write_bytes(b"file")
    assert await fetcher.fetch("DATA:image/png;base64," + base64.b64encode(b"data").decode()) == b"data"
    assert await fetcher.fetch((tmp_path / "a.png").as_uri()) == b"file"
    with pytest.raises(ImageTooLargeError):
        await fetcher.fetch("data:image/png;base64," + base64.b64encode(bytes(101)).decode())
    for url in (
        "",
        "a.png",
        "/etc/passwd",
        "ftp://images.test/a",
        "gopher://images.test",
        "javascript:1",
        "blob:x",
        "://",
    ):
        with pytest.raises(ImageUrlError, match="must start with http"):
            await fetcher.fetch(url)


async def test_a_stranger_cannot_stall_the_event_loop(server: Server, make_fetcher: MakeFetcher) -> None:
    async def tiny_chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n" * 10_000)
            await writer.drain()

    server.routes["/"] = tiny_chunks
    fetch = asyncio.ensure_future(make_fetcher(max_image_bytes=100_000).fetch(server.url("/")))
    turns = 0
    while not fetch.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100_000 / 200  # a read brings ten thousand of the chunks, which must not all be one turn
    with pytest.raises(ImageError):
        await fetch

"""Server-side request forgery: URLs that try to make the server talk to its own network."""

from collections.abc import Callable
from typing import Any

import httpcore2
import pytest

from aphrodite.adapters.outbound.images.fetching import UrlImageFetcher
from aphrodite.domain.errors import ImageForbiddenError, ImageUnreachableError, ImageUrlError

pytestmark = pytest.mark.anyio

MakeFetcher = Callable[..., UrlImageFetcher]

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "intranet": ["10.1.2.3"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "mixed.test": ["93.184.215.14", "10.0.0.1"],
    "mixed6.test": ["93.184.215.14", "fd00::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "zone.test": ["fe80::1%eth0"],
    "public.test": ["93.184.215.14"],
    "xn--bcher-kva.test": ["192.168.0.7"],
    "my_host.test": ["172.16.5.5"],
}

_FORBIDDEN = """
    http://127.0.0.1/ http://127.0.0.1:2242/health http://127.1.2.3/ http://0.0.0.0/ http://0.1.2.3/
    http://10.0.0.1/ http://172.16.0.1/ http://172.31.255.255/ http://192.168.1.1/ http://100.64.0.1/
    http://169.254.169.254/latest/meta-data/ http://169.254.170.2/v2 http://100.100.100.200/ http://192.0.0.192/
    http://168.63.129.16/ http://198.18.0.1/ http://192.0.2.1/ http://203.0.113.9/ http://224.0.0.1/
    http://240.0.0.1/ http://255.255.255.255/ HTTP://127.0.0.1/ https://127.0.0.1/ http://127.0.0.1./
    http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[0000::0001]:80/ http://[::ffff:127.0.0.1]/
    http://[::ffff:7f00:1]/ http://[::ffff:8.8.8.8]/ http://[::127.0.0.1]/ http://[::7f00:1]/ http://[::8.8.8.8]/
    http://[64:ff9b::127.0.0.1]/ http://[64:ff9b::a9fe:a9fe]/ http://[64:ff9b:1::808:808]/ http://[2002:7f00:1::]/
    http://[2002:a9fe:a9fe::1]/ http://[2001::7f00:1]/ http://[2001:0:5ef5:79fb:0:59d:a0e5:0e8e]/
    http://[fe80::1]/ http://[fc00::1]/ http://[fd00:ec2::254]/ http://[fd20:ce::254]/ http://[ff02::1]/
    http://[fec0::1]/ http://[2001:db8::1]/ http://[3fff::1]/ http://[100::1]/ http://[5f00::1]/
    http://localhost/ http://LOCALHOST/ http://localhost./ http://localhost:6379/ http://localhost.localdomain/
    http://metadata.google.internal/computeMetadata/v1/ http://intranet/ http://127.0.0.1.nip.test/
    http://mixed.test/ http://mixed6.test/ http://mapped.test/ http://zone.test/ http://my_host.test/
    http://b\u00fccher.test/ http://B\u00dcCHER.test/ http://xn--bcher-kva.test/
    http://\uff11\uff12\uff17.0.0.1/ http://127\u30020\u30020\u30021/ http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/
    http://public.test.@127.0.0.1/?no http://127.0.0.1?@public.test/ http://127.0.0.1#@public.test/
    http://127.0.0.1/@public.test
"""

_MALFORMED = """
    http://2130706433/ http://0x7f000001/ http://0x7f.0.0.1/ http://0177.0.0.1/ http://017700000001/ http://127.1/
    http://127.0.1/ http://0/ http://127.0.0.01/ http://127.0.0.1.0x/ http://127.0.0.256/ http://1.2.3.4.5/ http://0x/
    http://\u0661\u0662\u0667.1/ http://[::1%25lo]/ http://[fe80::1%eth0]/ http://[fe80::1%25eth0]/ http://[::1/ http://::1/
    http://[::1]]/ http://[127.0.0.1]/ http://[v1.x]/ http://[]/ http://[::ffff:127.1]/ http://[::1]x/ http://x[::1]/
    http://user@public.test/ http://user:password@public.test/ http://@public.test/ http://public.test@127.0.0.1/
    http://public.test:80@127.0.0.1/ http://127.0.0.1\\@public.test/ http://public.test\\@127.0.0.1/
    http:\\\\127.0.0.1/ http:/\\public.test/ http:/public.test/ http:public.test http:///127.0.0.1/ http://
    http://public.test:0/ http://public.test:65536/ http://public.test:99999999999999/ http://public.test:8x/
    http://public.test:-1/ http://public.test:80:80/ http://public.test:\uff18\uff10/ http://public.test:+80/
    http://%31%32%37.0.0.1/ http://local%68ost/ http://public.test%00.x/ http://.public.test/ http://public..test/
    http://public.test../ http://./ http://public.test,127.0.0.1/ http://pub*lic.test/ http://public!.test/
    http://\u2100.test/ http://\u00ad/ http://a\u200db.test/ http://\u202epublic.test/ httpx://127.0.0.1/
    http+unix://%2Frun%2Fdocker.sock/info
"""

FORBIDDEN = _FORBIDDEN.split()
MALFORMED = [
    *_MALFORMED.split(),
    "http://public.test/a b",
    "http://pub\tlic.test/",
    "ht\ntp://public.test/",
    "http://127.0.0.1\r\nX-Injected: 1/",
    "http://public.test/\r\nHost: 127.0.0.1",
    "http://public.test\x00.other.test/",
    "http://public.test/\x7f",
    "http://public.test/\x85",
    "http://public.test/\u00a0",
    "http://public.test/\ud800",
    "http://\ud83d.test/",
    "http://" + "a" * 64 + ".test/",
    "http://" + "a." * 130 + "test/",
    "http://" + "\u00fc" * 5000 + ".test/",
    "http://public.test/" + "a" * 9000,
]


class Network:
    """In the place of the operating system's: records where connections go, and makes none."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *_: object) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        raise httpcore2.ConnectError("foreign words of a network")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, resolver: Any) -> Network:
    network = Network()
    monkeypatch.setattr(httpcore2, "AnyIOBackend", lambda: network)
    resolver.answers.update(NAMES)
    return network


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_closed_addresses(url: str, network: Network, make_fetcher: MakeFetcher) -> None:
    expected = ImageUrlError if "@1" in url else ImageForbiddenError
    with pytest.raises(expected) as caught:
        await make_fetcher().fetch(url)
    assert network.connected == []
    if expected is ImageForbiddenError and "[" not in url and any(character.isalpha() for character in url[8:]):
        for addresses in NAMES.values():  # what a name inside the network resolves to stays inside
            assert not any(f" {address}" in str(caught.value) for address in addresses if address not in url)


@pytest.mark.parametrize("url", MALFORMED)
async def test_urls_that_parsers_disagree_on(
    url: str, network: Network, make_fetcher: MakeFetcher, resolver: Any
) -> None:
    with pytest.raises(ImageUrlError):
        await make_fetcher().fetch(url)
    assert network.connected == []
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("url", "connected"),
    [
        ("http://public.test/", ("93.184.215.14", 80)),
        ("https://PUBLIC.test./", ("93.184.215.14", 443)),
        ("http://public.test:/", ("93.184.215.14", 80)),
        ("http://8.8.8.8:8080/", ("8.8.8.8", 8080)),
        ("http://[2606:4700:0::1111]/", ("2606:4700::1111", 80)),
        ("http://[64:ff9b::8.8.8.8]/", ("64:ff9b::808:808", 80)),
        ("http://172.32.0.1/", ("172.32.0.1", 80)),
        ("http://public.test?a=\u00fc|{}", ("93.184.215.14", 80)),
    ],
)
async def test_open_addresses_are_connected_to_as_checked(
    url: str, connected: tuple[str, int], network: Network, make_fetcher: MakeFetcher
) -> None:
    with pytest.raises(ImageUnreachableError, match="cannot be reached") as caught:
        await make_fetcher().fetch(url)
    assert network.connected == [connected]
    assert "foreign words" not in str(caught.value)


async def test_a_host_that_the_operator_names_is_trusted(
    network: Network, make_fetcher: MakeFetcher, resolver: Any
) -> None:
    fetcher = make_fetcher(allowed_hosts=frozenset({"Intranet.", "[::1]", "fd00::1", "10.9.9.9", "b\u00fccher.test"}))
    for url in (
        "http://intranet/",
        "http://[0::1]/",
        "http://[fd00:0::1]/",
        "http://10.9.9.9/",
        "http://xn--bcher-kva.test/",
    ):
        with pytest.raises(ImageUnreachableError):
            await fetcher.fetch(url)
    hosts = [host for host, _ in network.connected]
    assert hosts == ["10.1.2.3", "::1", "fd00::1", "10.9.9.9", "192.168.0.7"]
    for url in ("http://intranet.test/", "http://sub.intranet/", "http://10.1.2.3/", "http://localhost/"):
        with pytest.raises((ImageForbiddenError, ImageUnreachableError)):
            await fetcher.fetch(url)
    assert len(network.connected) == 5


async def test_dns_that_changes_its_answer(network: Network, make_fetcher: MakeFetcher, resolver: Any) -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14"]]

    class Rebinding(dict[str, list[str]]):
        def __getitem__(self, host: str) -> list[str]:
            return answers.pop(0)

    resolver.answers = Rebinding({"rebind.test": []})
    fetcher = make_fetcher()
    with pytest.raises(ImageUnreachableError):
        await fetcher.fetch("http://rebind.test/")
    assert resolver.asked == ["rebind.test"]  # once: no second question whose answer could differ
    assert network.connected == [("93.184.215.14", 80)]
    with pytest.raises(ImageForbiddenError):
        await fetcher.fetch("http://rebind.test/")
    assert len(network.connected) == 1


@pytest.mark.parametrize("answers", [[], ["not an address"], ["1.2.3"], ["fe80::1%eth0"]])
async def test_odd_answers_of_the_resolver(
    answers: list[str], network: Network, make_fetcher: MakeFetcher, resolver: Any
) -> None:
    resolver.answers["odd.test"] = answers
    with pytest.raises((ImageUnreachableError, ImageForbiddenError)):
        await make_fetcher().fetch("http://odd.test/")
    assert network.connected == []


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/secret",
        "//127.0.0.1:{port}/secret",
        "http://[::1]:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
        "http://intranet/",
        "http://2130706433:{port}/secret",
        "http://user@images.test:{port}/secret",
        "http://images.test:{port}\\@127.0.0.1/secret",
        "\\\\127.0.0.1:{port}/secret",
        "http://[/",
        "http://\u2100.test/",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "ftp://images.test/",
        "gopher://127.0.0.1:{port}/_x",
        "/a b",
        "",
    ],
)
async def test_redirects_meet_the_same_checks(
    location: str, server: Any, make_fetcher: MakeFetcher, resolver: Any
) -> None:
    resolver.answers["intranet"] = ["127.0.0.1"]
    server.answer("/secret", b"secret")
    server.answer("/", b"", "302 There", ["Location: " + location.format(port=server.port)])
    with pytest.raises((ImageForbiddenError, ImageUrlError)):
        await make_fetcher(max_redirects=3).fetch(server.url("/"))
    assert server.requests["/secret"] == 0


async def test_the_systems_resolver_and_its_absent_answers() -> None:
    fetcher = UrlImageFetcher()
    try:
        with pytest.raises(ImageForbiddenError, match="localhost is not allowed"):
            await fetcher.fetch("http://localhost:1/")
    finally:
        await fetcher.close()

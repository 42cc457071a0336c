"""The URL parser: only our own errors, and what it lets through is plain."""

import contextlib
import re
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aphrodite.adapters.outbound.images.data_urls import read_data_url
from aphrodite.adapters.outbound.images.urls import HttpUrl, parse_http_url
from aphrodite.domain.errors import ImageError, ImageUrlError

_FRAGMENTS = """
    http:// https:// // / : @ \\ ? # % %2e . .. [ ] ::1 127.0.0.1 a xn-- xn--a example.test :80 0x7f 1 \u3002 \uff11
    \u00df \u0131 \u200d
"""
pieces = st.lists(
    st.one_of(
        st.sampled_from([*_FRAGMENTS.split(), "\ud800", "\t"]),
        st.characters(),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=200)
@given(st.one_of(st.text(), pieces, pieces.map(lambda rest: "http://" + rest)))
def test_every_text_is_a_url_or_our_error(text: str) -> None:
    try:
        url = parse_http_url(text)
    except ImageUrlError:
        return
    check_plain(url)
    assert parse_http_url(str(url)) == url  # reads what it writes


@settings(max_examples=200)
@given(pieces, pieces)
def test_every_redirect_is_a_url_or_our_error(path: str, location: str) -> None:
    try:
        url = parse_http_url("http://example.test/" + path).join(location)
    except ImageUrlError:
        return
    check_plain(url)


def check_plain(url: HttpUrl) -> None:
    assert url.scheme in ("http", "https")
    assert re.fullmatch(r"/[\x21-\x7e]*|\?[\x21-\x7e]*", url.target)
    assert 1 <= url.port <= 65535
    if ":" in url.host or url.host.rsplit(".", 1)[-1].isdigit():
        assert str(ip_address(url.host)) == url.host
    else:
        assert re.fullmatch(r"[a-z0-9_.-]+", url.host)


@settings(max_examples=200)
@given(st.one_of(st.text(), st.text().map(lambda text: "data:image/png;base64," + text), pieces))
def test_every_data_url_is_read_or_our_error(text: str) -> None:
    with contextlib.suppress(ImageError):
        assert len(read_data_url(text, 100)) <= 100


def test_parts() -> None:
    assert parse_http_url("HTTPS://B\u00fccher.Test:8443/a/\u00fc%20b?q=\u00e9#f") == HttpUrl(
        "https", "xn--bcher-kva.test", 8443, "/a/%C3%BC%20b?q=%C3%A9"
    )
    assert parse_http_url("http://h?q") == HttpUrl("http", "h", 80, "/?q")
    assert str(parse_http_url("https://h:443")) == "https://h/"
    assert parse_http_url("http://[0:0::1]:80").authority == "[::1]"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b", "http://h:81/a/b"),
        ("/b?c", "http://h:81/b?c"),
        ("?c", "http://h:81/a/x?c"),
        ("//g", "http://g/"),
        ("https://g/b#f", "https://g/b"),
        ("/\u00fc", "http://h:81/%C3%BC"),
        ("../../../b", "http://h:81/b"),
    ],
)
def test_join(location: str, expected: str) -> None:
    assert str(parse_http_url("http://h:81/a/x?y").join(location)) == expected


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/png;base64,aGk=", b"hi"),
        ("data:image/png;base64,aGk%3D", b"hi"),
        ("data:image/png;base64,aGk", b"hi"),
        (" \n data:image/png;base64,aA", b"h"),
        ("data:image/png;base64,a G\nk=\r\n", b"hi"),
        ("data:;base64,%2F%2B8=", b"\xff\xef"),
        ("data:image/svg+xml;charset=utf-8;BASE64,", b""),
    ],
)
def test_data_urls(url: str, data: bytes) -> None:
    assert read_data_url(url) == data


@pytest.mark.parametrize(
    "payload", ["a", "aGk=a", "aGk==", "====", "a-k_", "aGk=%", "aGk=\u00e9", "%ff%ff%ff%ff", "aGk=aGk="]
)
def test_data_that_is_not_base64(payload: str) -> None:
    with pytest.raises(ImageUrlError, match="not valid base64"):
        read_data_url("data:image/png;base64," + payload)

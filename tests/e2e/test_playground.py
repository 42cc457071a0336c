"""The page's files: what is served, with which headers, to whom; nothing else ever is."""

import http.client
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.e2e.server_process import SMALL, ServerProcess, running

STATIC = Path(str(files("aphrodite.adapters.inbound.http.playground"))) / "static"
KEY = {"Authorization": "Bearer sk-operator"}


@pytest.fixture(scope="module")
def proxied(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With a key, behind a proxy that may leave its prefix in front of paths, and without the page."""
    log = tmp_path_factory.mktemp("proxied") / "log"
    args = ("--api-key", "sk-operator", "--root-path", "/models/vlm", "--max-logprobs", "2", "--swap-space", "4")
    with running(log, str(checkpoint), *SMALL, *args, "--disable-playground") as process:
        yield process


def get(server: ServerProcess, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """Exactly this path: no client's cleaning of it."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_the_page_and_all_that_it_names(server: ServerProcess) -> None:
    response, page = get(server, "/")
    assert response.status == 200
    assert get(server, "/playground")[1] == page
    moved = get(server, "/playground/")[0]
    assert (moved.status, moved.headers["Location"]) == (307, "../playground")
    assert b'data-max-images="1"' in page
    seen, left = set(), set(re.findall(r'(?:src|href)="(playground/[^"]+)"', page.decode()))
    while left:  # modules name others
        path = left.pop()
        seen.add(path)
        found, content = get(server, f"/{path}")
        assert found.status == 200, path
        assert content == (STATIC / path.removeprefix("playground/")).read_bytes()
        if path.endswith(".js"):
            assert found.headers["Content-Type"] == "text/javascript; charset=utf-8"
            left |= {f"playground/{name}" for name in re.findall(r'from "\./(.*?)"', content.decode())} - seen
    assert {path.removeprefix("playground/") for path in seen} == {file.name for file in STATIC.iterdir()} - {
        "index.html"
    }


def test_headers_keep_strangers_out_of_the_page(server: ServerProcess) -> None:
    for path in ("/", "/playground/main.js", "/playground/icon.svg"):
        headers = get(server, path)[0].headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_the_sources_hold_no_other_address_and_make_no_markup() -> None:
    for file in STATIC.iterdir():
        text = file.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\son\w+=\"", text), file
        assert not re.search(r"\sstyle=\"", text), file


def test_what_is_unchanged_is_not_sent_again(server: ServerProcess) -> None:
    etag = get(server, "/")[0].headers["ETag"]
    again, body = get(server, "/", **{"If-None-Match": etag})
    assert (again.status, body) == (304, b"")
    head, body = get(server, "/", "HEAD")
    assert (head.status, body) == (200, b"")
    assert get(server, "/", "POST")[0].status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/playground/index.html",
        "/playground/files.py",
        "/playground/../files.py",
        "/playground/%2e%2e/files.py",
        "/playground/..%2ffiles.py",
        "/playground//etc/passwd",
        "/playground/%2fetc%2fpasswd",
        "/playground/main.js%00",
        "/playground/.",
        "/../../etc/passwd",
        "//playground",
        "/index.html",
    ],
)
def test_no_other_file_is_served(server: ServerProcess, path: str) -> None:
    response, body = get(server, path)
    assert response.status == 404
    assert response.headers["Content-Type"] == "application/json"
    assert b"root:" not in body


def test_the_page_can_be_left_out(proxied: ServerProcess) -> None:
    for path in ("/", "/playground", "/playground/main.js"):
        assert get(proxied, path)[0].status == 401
        assert get(proxied, path, **KEY)[0].status == 404


def test_a_proxys_prefix_may_be_there_or_not(proxied: ServerProcess) -> None:
    for prefix in ("", "/models/vlm"):
        assert get(proxied, f"{prefix}/health")[0].status == 200
        assert get(proxied, f"{prefix}/v1/models")[0].status == 401
        assert get(proxied, f"{prefix}/v1/models", **KEY)[0].status == 200
    assert get(proxied, "/models/vlmx/health", **KEY)[0].status == 404
    assert b'"servers":[{"url":"/models/vlm"}]' in get(proxied, "/openapi.json", **KEY)[1]


def test_no_more_log_probabilities_than_the_operator_allows(proxied: ServerProcess) -> None:
    request = urllib.request.Request(
        proxied.url + "/v1/completions",
        b'{"model": "%s", "prompt": "Hi", "logprobs": 3}' % _model(proxied),
        {"Content-Type": "application/json", **KEY},
    )
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(request, timeout=30)
    assert b"--max-logprobs" in refused.value.read()
    refused.value.close()


def test_the_log_says_which_flags_have_no_effect(proxied: ServerProcess) -> None:
    assert "--swap-space 4 has no effect: a preempted request is computed again" in proxied.log


def _model(server: ServerProcess) -> bytes:
    found = re.search(rb'"id":"(.*?)"', get(server, "/v1/models", **KEY)[1])
    assert found is not None
    return found[1]

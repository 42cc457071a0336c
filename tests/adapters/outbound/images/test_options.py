"""Options are judged when they are built."""

from pathlib import Path
from typing import Any

import pytest

from aphrodite.adapters.outbound.images.options import FetchOptions
from aphrodite.domain.errors import ConfigError


def test_hosts_are_kept_in_one_spelling() -> None:
    hosts = frozenset({"LocalHost.", "::1", "[0:0::2]", "127.0.0.1", "B\u00fccher.test"})
    assert FetchOptions(allowed_hosts=hosts).allowed_hosts == {
        "localhost",
        "::1",
        "::2",
        "127.0.0.1",
        "xn--bcher-kva.test",
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout_s": 0}, "APHRODITE_IMAGE_FETCH_TIMEOUT"),
        ({"timeout_s": float("nan")}, "APHRODITE_IMAGE_FETCH_TIMEOUT"),
        ({"timeout_s": float("inf")}, "APHRODITE_IMAGE_FETCH_TIMEOUT"),
        ({"max_image_bytes": 0}, "--max-image-bytes"),
        ({"max_redirects": -1}, "--image-max-redirects"),
        ({"allowed_hosts": frozenset({"localhost:80"})}, "--allowed-image-hosts.*'localhost:80'"),
        ({"allowed_hosts": frozenset({"http://localhost"})}, "--allowed-image-hosts"),
        ({"allowed_hosts": frozenset({"*.test"})}, "--allowed-image-hosts"),
        ({"allowed_hosts": frozenset({""})}, "--allowed-image-hosts"),
        ({"allowed_local_media_path": Path("/no/such/folder")}, "--allowed-local-media-path"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        FetchOptions(**options)

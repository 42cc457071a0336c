"""file: URLs stay inside the folder."""

import os
from pathlib import Path

import pytest

from aphrodite.adapters.outbound.images.local_files import read_local_file
from aphrodite.domain.errors import (
    ImageFetchError,
    ImageForbiddenError,
    ImageTooLargeError,
    ImageUnreachableError,
    ImageUrlError,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"inside")
    (folder / "sub" / "\u00fc b#.png").write_bytes(b"umlaut")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2" / "a.png").write_bytes(b"secret")
    (folder / "out").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "in").symlink_to("sub/../a.png")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("file://{}/a.png", b"inside"),
        ("FILE://localhost{}/a.png", b"inside"),
        ("file://{}/sub/../a.png", b"inside"),
        ("file://{}/in", b"inside"),
        ("file://{}//./a.png", b"inside"),
        ("file://{}/%61.png", b"inside"),
        ("file://{}/sub/%C3%BC%20b%23.png", b"umlaut"),
        ("file://{}/sub/\u00fc b%23.png", b"umlaut"),
        ("file://{}/up/media/a.png", b"inside"),
    ],
)
def test_files_inside(form: str, data: bytes, folder: Path) -> None:
    assert read_local_file(form.format(folder), folder, 100) == data


def test_the_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert read_local_file(f"file://{folder}/a.png", tmp_path / "link", 100) == b"inside"
    assert read_local_file(f"file://{tmp_path}/link/a.png", folder, 100) == b"inside"


@pytest.mark.parametrize(
    "form",
    [
        "file://{}/../secret",
        "file://{}/%2e%2e/secret",
        "file://{}/..%2fsecret",
        "file://{}/sub/../../secret",
        "file://{}/out",
        "file://{}/up/secret",
        "file://{}2/a.png",
        "file://{}/../media2/a.png",
        "file://{}/..",
        "file://{}/pipe",
        "file:///etc/passwd",
        "file:///etc/no-such-file",
        "file:///proc/self/environ",
        "file:///dev/zero",
        "file:///",
        "file:////etc/passwd",
    ],
)
def test_files_outside(form: str, folder: Path) -> None:
    with pytest.raises(ImageForbiddenError):
        read_local_file(form.format(folder), folder, 100)


@pytest.mark.parametrize(
    "form", ["file://{}/none.png", "file://{}/a.png/b", "file://{}/loop", "file://{}/" + "a" * 300]
)
def test_files_that_cannot_be_read(form: str, folder: Path) -> None:
    with pytest.raises(ImageUnreachableError, match="does not exist or cannot be read") as caught:
        read_local_file(form.format(folder), folder, 100)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        "file://host{}/a.png",
        "file://127.0.0.1{}/a.png",
        "file://user@localhost{}/a.png",
        "file:{}/a.png",
        "file:a.png",
        "file://",
        "file://{}/a.png?x",
        "file://{}/a.png#x",
        "file://{}/a.png%00.jpg",
        "file://{}/\x00",
        "file://{}/\ud800",
        "file:\\\\{}/a.png",
    ],
)
def test_malformed(form: str, folder: Path) -> None:
    with pytest.raises(ImageUrlError):
        read_local_file(form.format(folder), folder, 100)


def test_a_folder_is_no_file(folder: Path) -> None:
    with pytest.raises(ImageFetchError):
        read_local_file(f"file://{folder}/sub", folder, 100)


def test_limits(folder: Path) -> None:
    assert read_local_file(f"file://{folder}/a.png", folder, 6) == b"inside"
    with pytest.raises(ImageTooLargeError, match="larger than 5 bytes"):
        read_local_file(f"file://{folder}/a.png", folder, 5)
    with pytest.raises(ImageForbiddenError, match="--allowed-local-media-path"):
        read_local_file(f"file://{folder}/a.png", None, 100)

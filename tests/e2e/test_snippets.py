"""The documentation's snippets run as they stand there, but for the server's address and the picture's."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image
from tests.e2e.server_process import COMMAND, SMALL, ServerProcess, environment, running

ROOT = Path(__file__).parents[2]
INCLUDED = re.compile(r'^--8<-- "README\.md:(.*?)"$', re.MULTILINE)
BLOCK = re.compile(r"^( *)```(python|bash)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    """As the site shows it."""
    readme = (ROOT / "README.md").read_text()

    def section(match: re.Match[str]) -> str:
        found = re.search(rf"\[start:{match[1]}\] -->\n(.*?)<!-- --8<-- \[end:{match[1]}\]", readme, re.DOTALL)
        assert found, match[1]
        return found[1]

    return INCLUDED.sub(section, (ROOT / "docs" / name).read_text())


def snippets(name: str) -> list[tuple[str, str]]:
    return [(block[2], dedent(block[3])) for block in BLOCK.finditer(page(name))]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    args = ("--allowed-image-hosts", "127.0.0.1")
    with running(tmp_path_factory.mktemp("snippets") / "log", "demo", *SMALL, *args) as process:
        yield process


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In the place of what `make demo` draws."""
    path = tmp_path_factory.mktemp("drawn") / "picture.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return str(path)


@pytest.mark.parametrize(("language", "text"), snippets("clients.md"))
def test_clients(demo: ServerProcess, drawn: str, images: str, language: str, text: str) -> None:
    for name, value in (
        ("http://localhost:2242", demo.url),
        ("https://example.org/picture.png", f"{images}/red"),
        ("/tmp/aphrodite-demo.png", drawn),
        ("aphrodite chat", f"{COMMAND} chat"),
    ):
        text = text.replace(name, value)
    command = [sys.executable, "-"] if language == "python" else ["bash", "-euo", "pipefail"]
    env = environment(OPENAI_API_KEY="EMPTY")
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=env, timeout=60, check=True)
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


@pytest.mark.parametrize(("language", "text"), [*snippets("python.md"), *snippets("sampling.md")])
def test_from_python(drawn: str, tmp_path: Path, language: str, text: str) -> None:
    file = tmp_path / "snippet.py"  # AsyncLLM's engine reads the file again
    file.write_text(text.replace("/tmp/aphrodite-demo.png", drawn))
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, env=environment(), timeout=120, check=True
    )
    assert done.stdout.strip()


def test_every_page_is_in_the_sites_menu_and_every_flag_in_its_tables() -> None:
    named = set(re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert named == {file.name for file in (ROOT / "docs").glob("*.md")}
    assert "<!-- our flags -->" in page("server.md")
    assert "<!-- vllm flags -->" in page("coming-from-vllm.md")
    assert "<!-- sampling parameters -->" in page("sampling.md")

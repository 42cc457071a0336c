"""A real Chromium, and a server of the demo model with a key."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from tests.e2e.server_process import SMALL, ServerProcess, running

KEY = "sk-page"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "No Chromium is installed: install your distribution's, or name one in CHROMIUM."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("page") / "log", "demo", *SMALL, "--api-key", KEY) as process:
        yield process


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield context
    context.close()


@pytest.fixture
def stranger(context: BrowserContext, demo: ServerProcess) -> Iterator[Page]:
    """The page as someone without a key sees it. What it complains of to the console fails the test."""
    page, said = context.new_page(), list[str]()

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            said.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(demo.url)
    yield page
    assert not said


@pytest.fixture
def page(stranger: Page) -> Page:
    """The page with the key."""
    stranger.get_by_role("textbox", name="API key").fill(KEY)
    stranger.get_by_role("button", name="Use it").click()
    stranger.locator("#model:enabled").wait_for()
    return stranger


@pytest.fixture(scope="session")
def shots() -> Path | None:
    """Where pictures of the page go, to be looked at; nowhere unless SCREENSHOTS names a folder."""
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else None

"""The page in a real Chromium, with a real server behind it."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect
from tests.browser.conftest import KEY
from tests.e2e.conftest import picture
from tests.e2e.server_process import ServerProcess, environment

pytestmark = pytest.mark.browser


def ask(page: Page, text: str) -> str:
    """Ask, and wait for the whole answer."""
    page.get_by_role("textbox", name="Question").fill(text)
    page.keyboard.press("Enter")
    last = page.locator(".answer").last
    expect(last.get_by_role("button", name="Copy as curl")).to_be_visible(timeout=30_000)
    said: str = last.locator(".said").evaluate(
        "said => { said = said.cloneNode(true); said.querySelectorAll('.special').forEach(part => part.remove());"
        " return said.textContent; }"
    )
    return said


def settings(page: Page) -> None:
    if page.locator("#settings").is_hidden():
        page.get_by_role("button", name="Settings").click()


def drop(page: Page, name: str, data: bytes, event: str = "drop") -> None:
    """A file from the desktop, or with `event` "paste" from the clipboard."""
    page.evaluate(
        """([name, data, event]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
            transfer.items.add(new File([bytes], name, {type: name.endsWith("png") ? "image/png" : "text/plain"}));
            const made = event === "paste"
                ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
                : new DragEvent(event, {dataTransfer: transfer, bubbles: true, cancelable: true});
            document.body.dispatchEvent(made);
        }""",
        [name, base64.b64encode(data).decode(), event],
    )


def test_the_key_is_asked_for_and_kept_in_the_tab_alone(stranger: Page, context: BrowserContext) -> None:
    dialog = stranger.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    stranger.get_by_role("textbox", name="API key").fill("sk-wrong")
    stranger.get_by_role("button", name="Use it").click()
    expect(dialog).to_be_visible()
    stranger.get_by_role("textbox", name="API key").fill(KEY)
    stranger.get_by_role("button", name="Use it").click()
    expect(stranger.get_by_role("combobox", name="Model")).to_have_value("demo")
    expect(dialog).to_be_hidden()
    assert stranger.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]") == [[KEY], []]
    assert context.cookies() == []


def test_a_picture_is_asked_about_and_the_answer_looked_at(page: Page) -> None:
    page.get_by_role("button", name="Draw an example").click()
    expect(page.get_by_role("list", name="Attached pictures").get_by_role("img", name="example.png")).to_be_visible()
    answer = ask(page, "What is the content of this image?")
    assert answer.strip() == "A red circle and a blue square."
    figures = page.locator(".answer .figures").inner_text()
    for part in (r"Tokens\s+\d", r"Tokens/s\s+\d", r"First token\s+\d", r"Image tokens\s+64", r"End\s+stop"):
        assert re.search(part, figures), part
    said = page.locator(".answer .said")
    token = said.locator(".token", has_text="red")
    token.hover()
    tip = page.get_by_role("tooltip")
    expect(tip.locator("tr")).to_have_count(5)
    expect(tip.locator("tr.chosen th")).to_have_text("␣red")
    assert sum(float(share.strip("<%")) for share in tip.locator("td:last-child").all_inner_texts()) < 101
    page.mouse.move(0, 0)
    said.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(tip).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("%; else")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: Page, event: str) -> None:
    if event == "drop":
        drop(page, "red.png", picture("rgb", (230, 20, 30)), "dragover")
        expect(page.locator("#dropping")).to_be_visible()
    drop(page, "red.png", picture("rgb", (230, 20, 30)), event)
    expect(page.locator("#dropping")).to_be_hidden()
    expect(page.get_by_role("img", name="red.png")).to_be_visible()
    page.get_by_role("button", name="Remove red.png").click()
    expect(page.get_by_role("img", name="red.png")).to_have_count(0)
    drop(page, "notes.txt", b"text")
    expect(page.get_by_role("alert")).to_have_text("notes.txt is not a picture.")


def test_a_second_picture_begins_a_conversation_and_history_keeps_both(page: Page, tmp_path: Path) -> None:
    for name, colour in (("red.png", (230, 20, 30)), ("blue.png", (20, 60, 210))):
        file = tmp_path / name
        file.write_bytes(picture("rgb", colour))
        page.locator("#file").set_input_files(file)
        expect(page.get_by_role("img", name=name)).to_be_visible()
        ask(page, f"What color is this? {name}")
        expect(page.locator(".turn.user")).to_have_count(1)
    ask(page, "And once more?")
    expect(page.locator(".turn.user")).to_have_count(2)
    page.reload()
    page.get_by_role("button", name="History").click()
    past = page.get_by_role("complementary", name="History").get_by_role("listitem")
    expect(past).to_have_count(2)
    past.last.get_by_role("button").first.click()
    expect(page.locator("#conversation").get_by_role("img", name="red.png")).to_be_visible()
    expect(page.locator(".answer .figures")).to_contain_text("Tokens")
    page.get_by_role("button", name="Delete: What color is this? red.png").click()
    expect(past).to_have_count(1)
    page.get_by_role("button", name="Delete all").click()
    expect(past).to_have_count(0)


def test_whatever_is_said_is_shown_as_text(page: Page) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    ask(page, hostile)
    expect(page.locator(".turn.user .said")).to_have_text(hostile)
    assert page.locator("#conversation img, #conversation script").count() == 0
    assert page.title() == "Aphrodite playground"


def test_the_copies_ask_the_same(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "it's $HOME.png"
    file.write_bytes(picture("rgb", (230, 20, 30)))
    page.locator("#file").set_input_files(file)
    settings(page)
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Top k").fill("7")
    page.get_by_label("Stop at").fill("never said")
    answer = ask(page, 'What color is this? "quoted" `echo no` $HOME \\n \\ é 😀')
    env = environment(OPENAI_API_KEY=KEY)
    for button, command in (("curl", ["bash", "-s"]), ("Python", [sys.executable, "-"])):
        page.evaluate("navigator.clipboard.writeText('')")
        page.get_by_role("button", name=f"Copy as {button}").click()
        page.wait_for_function("navigator.clipboard.readText()")
        text = page.evaluate("navigator.clipboard.readText()")
        assert KEY not in text
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=env, cwd=tmp_path, check=True, timeout=60
        )
        found = json.loads(done.stdout)["choices"][0]["message"]["content"] if button == "curl" else done.stdout
        assert found.strip() == answer.strip()


def test_settings_are_sent(page: Page) -> None:
    settings(page)
    page.get_by_role("textbox", name="System prompt").fill("Be brief.")
    page.get_by_label("Longest answer").fill("3")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Show each token's alternatives").uncheck()
    page.get_by_role("combobox", name="Form").select_option("json_schema")
    page.get_by_role("textbox", name="JSON schema").fill('{"type": "object"}')
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("textbox", name="Question").fill("Hello")
        page.get_by_role("button", name="Ask", exact=True).click()
    body = sent.value.post_data_json
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert (body["max_tokens"], body["seed"], "logprobs" in body) == (3, 7, False)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    answer = page.locator(".answer .said")
    expect(answer).to_contain_text("{")  # the server keeps to it
    page.get_by_role("button", name="Back to the model's own").click()
    expect(page.get_by_role("textbox", name="JSON schema")).to_be_hidden()
    page.get_by_role("combobox", name="Form").select_option("json_schema")
    page.get_by_role("textbox", name="JSON schema").fill("{")
    page.get_by_role("textbox", name="Question").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").last).to_contain_text("The JSON schema is not valid JSON")


def test_an_answer_can_be_stopped_and_a_failure_asked_again(page: Page) -> None:
    held = []
    page.route("**/v1/chat/completions", lambda route: held.append(route))
    page.get_by_role("textbox", name="Question").fill("Hello")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".figures")).to_contain_text("stopped")
    page.unroute_all()
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, json={"error": {"message": "Busy."}}))
    page.get_by_role("textbox", name="Question").fill("Again")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Busy.")
    expect(page.get_by_role("textbox", name="Question")).to_have_value("Again")
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_used_by_all(page: Page, scheme: str, width: int, shots: Path | None) -> None:
    """No rule of WCAG that axe can check is broken, and nothing is cut off."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.reload()
    page.locator("#model:enabled").wait_for()

    def look(name: str) -> None:
        if shots is not None:
            page.screenshot(path=shots / f"{name}-{scheme}-{width}.png")
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")

    look("empty")
    page.get_by_role("button", name="Draw an example").click()
    ask(page, "How many shapes are there?")
    look("answer")
    page.locator(".token").last.hover()
    expect(page.get_by_role("tooltip")).to_be_visible()
    look("alternatives")
    page.mouse.move(0, 0)
    settings(page)
    page.get_by_role("combobox", name="Form").select_option("json_schema")
    look("settings")
    page.get_by_role("button", name="History").click()
    expect(page.get_by_role("button", name="Delete: How many shapes are there?")).to_be_in_viewport(ratio=1)
    look("history")


def test_all_is_reached_with_the_keyboard(page: Page) -> None:
    seen = set()
    for _ in range(45):  # round the page once
        page.keyboard.press("Tab")
        focused = "document.activeElement"
        seen.add(page.evaluate(f"{focused}.id || {focused}.name || {focused}.innerText"))
    controls = page.locator("button:visible, select:visible, input:visible, textarea:visible").evaluate_all(
        "controls => controls.map(control => control.id || control.name || control.innerText)"
    )
    assert len(controls) > 20
    assert set(controls) - seen == set()


def test_what_it_loads_comes_from_the_server_alone(page: Page, demo: ServerProcess) -> None:
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.reload()
    ask(page, "Hello")
    assert {address for address in addresses if not address.startswith((demo.url, "data:"))} == set()
    assert len(addresses) > 10

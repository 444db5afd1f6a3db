"""The chat page in a real browser, at real servers.

SCREENSHOTS=FOLDER CHECKPOINT=FOLDER IMAGE=FILE writes the pictures of the guide.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks.serve_fuzz import attack, malformed
from chat_server import wait
from vistune.cli import main

expect.set_options(timeout=60_000)  # the servers and the browser share few cores


@contextmanager
def served(checkpoint: Path, *options: str) -> Iterator[str]:
    """The URL of `vistune serve`, a process of its own."""
    command = [sys.executable, "-m", "vistune.cli", "serve", str(checkpoint), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            lines = iter(process.stderr.readline, "")
            url = next(found[1] for line in lines if (found := re.search(r"(http://.*/)v1\n", line)))
            httpx.Client(transport=httpx.HTTPTransport(retries=8)).get(f"{url}health")  # bound, it listens a bit later
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pictures: list[Image.Image]) -> Path:
    """A folder with two images and a file of example questions; the votes will be there."""
    folder = tmp_path_factory.mktemp("page")
    for number, picture in enumerate(pictures[:2]):
        picture.resize((80, 60)).save(folder / f"{number}.png")
    (folder / "examples.jsonl").write_text(json.dumps({"image": "1.png", "question": "two cats"}) + "\n")
    return folder


GIVE = """(box, [event, name, content]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true, clipboardData: files, dataTransfer: files};
  box.dispatchEvent(event === "paste" ? new ClipboardEvent(event, options) : new DragEvent(event, options));
}"""
NOISE = ("Autofocus", "AbortError", "Unexpected error Connection errored out")
"""Chromium's note on editing, and Gradio's on a stream that ends because the page is left."""


@pytest.fixture(scope="module")
def urls(assistants: dict[str, Path], files: Path) -> Iterator[tuple[str, str]]:
    """The servers of one model, and of two side by side."""
    one, other = files / "language", str(assistants["narrow"])
    shutil.copytree(assistants["language"], one)
    config = (one / "config.json").read_text()  # with place for an answer that is long enough to be stopped
    (one / "config.json").write_text(re.sub(r'("max_position_embeddings": )512', r"\g<1>4096", config))
    with ExitStack() as stack:
        single = ["--votes", str(files / "votes.jsonl"), "--examples", str(files / "examples.jsonl")]
        double = ["--votes", str(files / "preferences.jsonl"), "--compare", other]
        yield stack.enter_context(served(one, *single)), stack.enter_context(served(one, *double))


@pytest.fixture
def page(urls: tuple[str, str], pages: Any) -> Iterator[Page]:
    """The page of one model; nothing on it complains, and no request goes to another host."""
    pages.complaints.clear()
    page = pages.open(urls[0])
    page.wait_for_load_state("networkidle")
    yield page
    page.close()
    assert not [one for one in pages.complaints if not one.startswith(NOISE)]


def ask(page: Page, text: str, *images: Path) -> None:
    if images:
        page.locator("input[type=file]").first.set_input_files(images)
        expect(page.locator(".thumbnail-item")).to_have_count(len(images))
    page.locator("textarea").first.fill(text)
    page.keyboard.press("Enter")


def give(page: Page, event: str, image: Path) -> None:
    """Paste or drop an image: the event that the browser sends for it."""
    page.locator("textarea").first.evaluate(GIVE, [event, image.name, base64.b64encode(image.read_bytes()).decode()])


def answer(url: str, text: str, *images: Path, **headers: str) -> str:
    """What the API answers."""
    urls = [f"data:image/png;base64,{base64.b64encode(one.read_bytes()).decode()}" for one in images]
    content = [*({"type": "image_url", "image_url": {"url": one}} for one in urls), {"type": "text", "text": text}]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 512}
    reply = httpx.post(f"{url}v1/chat/completions", json=body, headers=headers, timeout=60).json()
    return str(reply["choices"][0]["message"]["content"])


def expect_answer(page: Page, url: str, text: str, *images: Path) -> None:
    """Wait for the answer that the API gives to the same question, with its speed below it."""
    expect_texts(page, answer(url, text, *images))


def expect_texts(page: Page, *texts: str) -> None:
    """Wait for the last answer of each chat, with its speed below it."""
    expect(page.locator(".bot-row small")).to_have_count(len(texts))
    shown = page.locator(".bot-row:not(:has(small))")
    wait(lambda: list(map(words, shown.all_inner_texts()))[-len(texts) :] == list(map(words, texts)))


def words(text: str) -> str:
    """What is left of a text by its way through a page."""
    return re.sub(r"\W", "", text)


def running(url: str) -> int:
    """The number of answers that the server is writing."""
    return int(re.findall(r"^vistune_running_sequences (\d+)", httpx.get(f"{url}metrics").text, re.MULTILINE)[0])


def test_questions_about_images_are_answered_as_by_the_api(page: Page, urls: tuple[str, str], files: Path) -> None:
    images = files / "0.png", files / "1.png"
    ask(page, "how many dogs", *images)
    expect(page.locator(".user-row img")).to_have_count(2)
    expect_answer(page, urls[0], "how many dogs", *images)
    page.get_by_label("Edit").last.click()
    page.locator(".user-row textarea").fill("how many cats")
    page.locator(".user-row").last.locator("xpath=..").get_by_label("Submit").first.click()
    expect(page.locator(".user-row").last).to_contain_text("how many cats")
    expect_answer(page, urls[0], "how many cats", *images)
    expect(page.locator(".user-row img")).to_have_count(2)


def test_malformed_requests_are_no_failure_of_the_page(urls: tuple[str, str]) -> None:
    with ThreadPoolExecutor(1) as other:  # in this thread, Playwright has a loop
        statuses, wrong = other.submit(asyncio.run, attack(urls[0].rstrip("/"), "", malformed(3, 400))).result()
    assert wrong == []
    assert {200, 400, 404, 422} <= set(statuses)


def test_images_are_pasted_and_dropped(page: Page, urls: tuple[str, str], files: Path) -> None:
    images = files / "0.png", files / "1.png"
    for count, (event, image) in enumerate(zip(("paste", "drop"), images, strict=True), 1):
        give(page, event, image)
        expect(page.locator(".thumbnail-item")).to_have_count(count)
    ask(page, "two cats")
    expect_answer(page, urls[0], "two cats", *images)


def test_a_page_behind_a_key_asks_another_server_too(
    urls: tuple[str, str], assistants: dict[str, Path], pages: Any, files: Path
) -> None:
    with served(assistants["narrow"], "--api-key", "hush", "--compare", f"{urls[0]}v1") as url:
        assert httpx.get(url).status_code == httpx.get(f"{url}gradio_api/info").status_code == 401
        page = pages.open(url, http_credentials={"username": "anyone", "password": "hush"})
        page.wait_for_load_state("networkidle")
        ask(page, "how many dogs", files / "0.png")
        texts = [answer(one, "how many dogs", files / "0.png", Authorization="Bearer hush") for one in (url, urls[0])]
        expect_texts(page, *texts)
        expect(page.get_by_text("narrow and language")).to_be_visible()
        page.close()
    assert not pages.complaints


def test_a_long_answer_streams_and_stops(page: Page, urls: tuple[str, str]) -> None:
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Maximum tokens").fill("4000")
    ask(page, "how many dogs")
    expect(page.locator(".bot-row")).to_contain_text("no")
    page.get_by_label("Stop").dispatch_event("click")  # without the time that the driver takes to aim
    expect(page.get_by_label("Submit")).to_be_visible()
    wait(lambda: running(urls[0]) == 0)
    expect(page.locator("small")).to_have_count(0)
    page.get_by_label("Maximum tokens").fill("5")
    page.get_by_label("Retry").click()
    expect(page.locator("small")).to_contain_text("5 tokens")
    page.get_by_label("Maximum tokens").fill("6")
    page.get_by_label("Retry").click()
    expect(page.locator("small")).to_contain_text("6 tokens")


def test_a_vote_is_stored_without_the_image(page: Page, urls: tuple[str, str], files: Path) -> None:
    ask(page, "yes", files / "0.png")
    expect_answer(page, urls[0], "yes", files / "0.png")
    page.get_by_label("Like", exact=True).first.click()
    wait(lambda: bool((files / "votes.jsonl").read_text()))
    vote = json.loads((files / "votes.jsonl").read_text())
    assert (vote["model"], vote["vote"]) == ("language", "like")
    assert vote["images"] == [hashlib.sha256((files / "0.png").read_bytes()).hexdigest()]
    assert [one["role"] for one in vote["messages"]] == ["user", "user", "assistant"]
    assert vote["messages"][1]["content"] == "yes"


def test_a_reload_keeps_the_conversation_also_on_a_phone(page: Page, urls: tuple[str, str], files: Path) -> None:
    ask(page, "what is $x^2$ <box>", files / "0.png")
    expect_answer(page, urls[0], "what is $x^2$ <box>", files / "0.png")
    page.set_viewport_size({"width": 390, "height": 800})
    page.reload()
    expect(page.locator(".user-row img")).to_have_count(1)
    expect(page.locator(".user-row .katex")).to_have_count(1)
    expect(page.locator(".user-row").last).to_contain_text("<box>")
    expect_answer(page, urls[0], "what is $x^2$ <box>", files / "0.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_text("New conversation").click()
    expect(page.locator(".user-row")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Ask about an image.")).to_be_visible()


def test_a_conversation_is_saved_and_opened(
    page: Page, urls: tuple[str, str], files: Path, tmp_path: Path, pages: Any
) -> None:
    ask(page, "how many dogs", files / "0.png")
    expect_answer(page, urls[0], "how many dogs", files / "0.png")
    page.get_by_text("Save, open, prompt").click()
    page.get_by_role("button", name="Exact prompt").click()
    expect(page.get_by_role("textbox").last).to_have_value(re.compile("<image>\\nhow many dogs"))
    page.get_by_role("button", name="Save", exact=True).click()
    for kind in ("html", "json"):
        with page.expect_download() as download:
            page.locator(f"a[download='conversation-language.{kind}']").click()
        download.value.save_as(tmp_path / f"saved.{kind}")
        page.get_by_text("New conversation").click()
        expect(page.locator(".user-row")).to_have_count(0)
        page.locator("input[type=file]").last.set_input_files(tmp_path / f"saved.{kind}")
        expect(page.locator(".user-row img")).to_have_count(1)
        expect(page.locator(".bot-row")).to_have_count(1)
    saved = pages.open(tmp_path / "saved.html")
    expect(saved.locator("img")).to_have_js_property("naturalWidth", 80)
    expect(saved.locator("article")).to_have_count(2)


def test_an_error_says_what_happened(page: Page, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"hush-hush")
    ask(page, "how many dogs", tmp_path / "no.png")
    expect(page.locator(".bot-row")).to_contain_text("the image is corrupt")
    assert "hush-hush" not in page.content()


def test_an_example_is_filled_in(page: Page, urls: tuple[str, str], files: Path) -> None:
    page.get_by_text("two cats").click()
    expect(page.locator("textarea").first).to_have_value("two cats")
    page.get_by_label("Submit").click()
    expect(page.locator(".user-row img")).to_have_count(1)
    expect_answer(page, urls[0], "two cats", files / "1.png")


def test_a_blind_vote_is_read_as_a_review(
    urls: tuple[str, str], pages: Any, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = pages.open(urls[1])
    page.wait_for_load_state("networkidle")
    vote = page.get_by_role("button", name="A is better")
    for images in ((files / "0.png",), ()):
        page.get_by_role("button", name="Parameters").click()
        page.get_by_label("Maximum tokens").fill("30")
        expect(vote).to_be_disabled()
        ask(page, "how many dogs", *images)
        expect(vote).to_be_enabled()
        expect(page.get_by_label("Submit")).to_be_visible()
        assert "narrow" not in page.locator(".chat").all_inner_texts()
        page.reload()  # keeps the answers, and who they are from
        vote.click()
        expect(page.get_by_text("narrow")).to_be_visible()
        expect(vote).to_be_disabled()
        page.get_by_text("New conversation").click()
        expect(page.locator(".bot-row")).to_have_count(0)
    page.get_by_role("button", name="Parameters").click()  # closed by the reload
    page.get_by_label("Maximum tokens").fill("4000")
    ask(page, "how many dogs")
    page.get_by_label("Stop").dispatch_event("click")
    expect(page.get_by_label("Submit")).to_be_visible()
    expect(vote).to_be_disabled()  # an answer that was stopped is not compared
    page.get_by_text("New conversation").click()
    rows = [json.loads(line) for line in (files / "preferences.jsonl").read_text().splitlines()]
    assert [row["tuple"] for row in rows] == [[1, 0] if row["left"] == "language" else [0, 1] for row in rows]
    assert main(["rescore", str(files / "preferences.jsonl")]) == 0
    assert "reviews" in capsys.readouterr().out
    assert not pages.complaints


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="pictures are taken on request: SCREENSHOTS=FOLDER")
def test_the_pictures_of_the_guide(pages: Any) -> None:
    folder, image = Path(os.environ["SCREENSHOTS"]), Path(os.environ["IMAGE"])
    with served(Path(os.environ["CHECKPOINT"])) as url:
        page = pages.open(url, viewport={"width": 900, "height": 760})
        page.wait_for_load_state("networkidle")
        ask(page, "What is in this image?", image)
        expect(page.locator(".bot-row small")).to_be_visible()
        page.screenshot(path=folder / "chat-page.png")
        page.set_viewport_size({"width": 390, "height": 760})
        page.get_by_role("button", name="Dark").click()
        page.screenshot(path=folder / "chat-page-phone.png")

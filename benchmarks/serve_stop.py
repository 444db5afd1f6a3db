"""Stopping an answer on the chat page: the time until the page shows it, and until the model writes no more.

    python benchmarks/serve_stop.py

A real browser (the system's Chromium) at `vistune serve` with a tiny checkpoint made on the spot. Each time it asks for
a long answer, waits until that streams, and presses the button. The page's time is the browser's own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from eval_throughput import EVAL_SHAPES, make_model
from playwright.sync_api import Page, expect, sync_playwright
from serve_servers import SERVERS, serving

PRESS = """() => new Promise((done) => {
  const start = performance.now();
  const watcher = new MutationObserver(() => {
    if (document.querySelector("[aria-label=Submit]")) {
      watcher.disconnect();
      done((performance.now() - start) / 1000);
    }
  });
  watcher.observe(document.body, {childList: true, subtree: true});
  document.querySelector("[aria-label=Stop]").click();
})"""


def stop(page: Page, url: str) -> tuple[float, float]:
    """The seconds from the press until the page shows it, and until nothing is written."""
    page.locator("textarea").first.fill("w1 w2")
    page.keyboard.press("Enter")
    expect(page.locator(".bot-row").last).to_contain_text("w")
    expect(page.get_by_label("Stop")).to_be_visible()
    ended: list[float] = []
    start = time.perf_counter()
    watcher = threading.Thread(target=lambda: ended.append(_end(url)))
    watcher.start()
    shown = float(page.evaluate(PRESS))
    watcher.join()
    page.get_by_text("New conversation").click()
    expect(page.locator(".bot-row")).to_have_count(0)
    return shown, ended[0] - start


def _end(url: str) -> float:
    """When the server's metrics show that no sequence is running."""
    with httpx.Client() as client:
        while "vistune_running_sequences 0" not in client.get(f"{url}metrics").text:
            time.sleep(0.002)
    return time.perf_counter()


def measure(url: str, times: int) -> list[tuple[float, float]]:
    """Stop that many answers."""
    with sync_playwright() as playwright:
        browser: Any = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.wait_for_load_state("networkidle")
        page.get_by_role("button", name="Parameters").click()
        page.get_by_label("Maximum tokens").fill("1400")
        return [stop(page, url) for _ in range(times)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        make_model(EVAL_SHAPES["tiny"], Path(name))
        with serving(SERVERS["vistune serve"], Path(name) / "model") as (address, _):
            pairs = measure(address.removesuffix("v1"), times)
    print(f"| {times} stops | median, s | slowest, s |\n|---|---|---|")
    for what, values in zip(("the page shows it", "the model stops"), zip(*pairs, strict=True), strict=True):
        print(f"| {what} | {statistics.median(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()

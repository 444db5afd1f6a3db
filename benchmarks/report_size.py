"""The report on many answers: its size, how fast it opens from disk, how fast it filters, in Debian's Chromium.

Photo-like images of 640 x 480 pixels, five questions each, in two shapes: all answers of one run, and two runs that
are compared. A fifth of the answers has a judge's text. A time to filter is that of its computation and, in brackets,
that until the frame after it.

    python benchmarks/report_size.py --answers 10000 --images 2000
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vistune.evaluate.benchmarks._metrics import accuracy
from vistune.evaluate.report import write_report
from vistune.evaluate.results import BenchmarkScores, Scores, scored, verdict_row, write_verdicts
from vistune.records import Question, Verdict
from vistune.resources import folder

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CHANGES = {
    "verdict": "wrong", "benchmark": "bench1", "type": "count", "change": "worse", "order": "file",
    "text": "photo", "text, again": "photo of the",
}  # fmt: skip
TIME_OF_A_FILTER = """([name, content]) => new Promise((done) => {
  const field = document.forms[0].elements[name];
  const start = performance.now();
  field.value = content;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  const computed = performance.now() - start;
  requestAnimationFrame(() => setTimeout(() => done([computed, performance.now() - start]), 0));
})"""


def main() -> None:
    """Print a row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    names = " | ".join(CHANGES)
    print(f"| shape | written, s | HTML, MB | images beside, MB | open, s | rows drawn | {names} |")
    print("|---" * (6 + len(CHANGES)) + "|")
    with tempfile.TemporaryDirectory() as name:
        images = list(draw_photos(Path(name) / "images", options.images))
        for runs in (1, 2):
            out = Path(name) / str(runs)
            evaluations = [write_run(out / f"run{run}", images, options.answers // runs, run) for run in range(runs)]
            start = time.perf_counter()
            page = write_report(out, evaluations)
            written = time.perf_counter() - start
            beside = sum(file.stat().st_size for file in (out / "report_images").iterdir())
            shape = f"{runs} x {options.answers // runs:,}"
            sizes = f"{page.stat().st_size / 1e6:.1f} | {beside / 1e6:.0f}"
            print(f"| {shape} | {written:.0f} | {sizes} | {' | '.join(in_browser(page, options.chromium))} |")


def draw_photos(out: Path, count: int) -> Iterator[Path]:
    """JPEG files with the spectrum of photos: coarse shapes, finer ones fainter, a little noise."""
    out.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = np.zeros((480, 640, 3))
        for size, strength in ((4, 70), (16, 35), (64, 18), (240, 8)):
            layer = rng.normal(0, strength, (size, size, 3)).clip(-127, 127) + 128
            grown = Image.fromarray(layer.astype(np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
            picture += np.asarray(grown, dtype=float) - 128
        path = out / f"{number:06}.jpg"
        Image.fromarray((picture + 128).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        yield path


def write_run(out: Path, images: list[Path], count: int, seed: int) -> Path:
    """An evaluation of `count` answers, in the files that `evaluate` writes."""
    out.mkdir(parents=True)
    rng = random.Random(seed)
    words = (folder("vistune.evaluate.benchmarks", "judge_rules") / "default.txt").read_text().split()

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices([*words, "photo", "of", "the"], k=rng.randint(low, high)))

    rows = []
    for number in range(count):
        kind = ("existence", "count", "position", "relation", "category")[number % 5]
        prompt = f"Question {number} about the photo: {'which of these objects is nearer to the camera? ' * 2}"
        image = images[number * len(images) // count]
        question = Question(f"question/{number}", prompt, (image,), kind, ("the dog on the left",))
        why = text(60, 160) if number % 5 == 0 else "equals no reference"
        value = None if number % 50 == 0 else float(rng.random() < 0.7)
        rows.append(verdict_row(f"bench{number % 3}", question, text(5, 90), Verdict(value, "dog", why), f"run{seed}"))
    write_verdicts(out, rows)
    scores = {}
    for name in ("bench0", "bench1", "bench2"):
        own = [scored(row) for row in rows if row["benchmark"] == name]
        scores[name] = BenchmarkScores(len(own), 0, {"accuracy": accuracy(own)}, {})
    Scores(f"run{seed}", scores).write(out)
    return out


def in_browser(page: Path, chromium: str) -> Iterator[str]:
    """Seconds to open it, rows drawn, and for each change of a filter `computed (until the next frame)` in ms.

    Raises RuntimeError for an error, a message on the console, or a request for another file.
    """
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        shown: Any = browser.new_page()
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("request", lambda request: complaints.append(request.url) if _is_other(request.url, page) else None)
        start = time.perf_counter()
        shown.goto(page.as_uri())
        shown.locator(".row").first.wait_for(state="attached")
        yield f"{time.perf_counter() - start:.2f}"
        shown.evaluate("document.getElementById('answers').scrollIntoView()")
        shown.evaluate("new Promise(requestAnimationFrame)")
        yield str(shown.locator(".row").count())
        for name, content in CHANGES.items():
            field = name.partition(",")[0]
            if not shown.locator(f"[name={field}]").count():
                yield "–"
                continue
            computed, framed = shown.evaluate(TIME_OF_A_FILTER, [field, content])
            yield f"{computed:.0f} ({framed:.0f})"
            shown.evaluate(TIME_OF_A_FILTER, [field, content if name == "text" else ""])
        browser.close()
    if complaints:
        raise RuntimeError(complaints[0])


def _is_other(url: str, page: Path) -> bool:
    return url != page.as_uri() and not url.startswith("data:")


if __name__ == "__main__":
    main()

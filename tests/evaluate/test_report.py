from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.report import write_report
from vistune.evaluate.results import load_verdicts
from vistune.evaluate.runner import evaluate
from vistune.records import ImageRecord

Says = type
HOSTILE = "<script>alert(1)</script>\"'&<b>"


class Tags(HTMLParser):
    """The tags of a page and what they refer to; fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(records: list[ImageRecord], says: Says, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is right except about positions, and one that says yes; with a log of 300 steps."""
    folder = tmp_path_factory.mktemp("run")
    made = {name: benchmarks.get(name)(Setting(annotated=records)) for name in ("scene_qa", "chair")}
    known = {(q.images[0], q.text): q for one in made.values() for q in one.questions()}

    def right(image: Path, text: str) -> str:
        question = known[image, text]
        return HOSTILE if question.type == "position" else ", ".join(question.references)

    evaluate(says(right), made, folder / "tuned", label="tuned")
    evaluate(says(lambda *_: "Yes."), made, folder / "blind", label="<i>blind</i>")
    rows = [{"step": step, "loss": 1 + 1 / step, "lr": 0.1, "stage": "align"} for step in range(1, 301)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write(run: Path, records: list[ImageRecord], **changed: object) -> str:
    settings: dict[str, object] = {
        "evaluations": [run / "tuned", run / "blind"],
        "records": records,
        "logs": {"align": run / "log.jsonl"},
        "details": {"seed": "0", HOSTILE: HOSTILE},
        "title": HOSTILE,
    }
    path = write_report(run / "out", **(settings | changed))
    assert path == run / "out" / "report.html"
    return path.read_text("utf-8")


def test_one_well_formed_file_that_needs_no_other(run: Path, records: list[ImageRecord]) -> None:
    page = write(run, records)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("article") == tags.seen.count("img") == 12
    assert all(reference.startswith("data:image/") for reference in tags.references)
    assert not re.search(r"url\(|@import|https?://", page)


def test_everything_is_escaped(run: Path, records: list[ImageRecord]) -> None:
    boxed = [replace(record, boxes=tuple(replace(box, category=HOSTILE) for box in record.boxes)) for record in records]
    page = write(run, [replace(record, id=HOSTILE + record.id) for record in boxed])
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert HOSTILE not in page
    assert "<i>blind</i>" not in page
    assert "&lt;script&gt;" in page


def test_scores_and_the_gap_to_the_baseline_are_there(run: Path, records: list[ImageRecord]) -> None:
    page = write(run, records)
    tuned, blind = (json.loads((run / name / "scores.json").read_text()) for name in ("tuned", "blind"))
    for scores in (tuned, blind):
        for value in (scores["accuracy"], scores["recall"], *scores["by_type"].values()):
            assert f"{100 * value:.1f}" in page
    assert f"{100 * (tuned['accuracy'] - blind['accuracy']):+.1f}<small>points" in page


def test_wrong_answers_are_marked_with_the_right_one(run: Path, records: list[ImageRecord]) -> None:
    page = write(run, records, images=40)
    wrong = [row for row in load_verdicts(run / "tuned") if row["benchmark"] == "scene_qa" and not row["value"]]
    assert page.count('<li class="bad">') == page.count('class="want">Correct: ') == len(wrong) > 10


def test_the_gallery_shows_images_with_and_without_a_wrong_answer(run: Path, records: list[ImageRecord]) -> None:
    cards = write(run, records, images=6).split("<article")[1:]
    assert sorted("bad" in card for card in cards) in ([False] * 3 + [True] * 3, [False, *[True] * 5])


def test_an_image_that_is_gone_is_named(run: Path, records: list[ImageRecord], tmp_path: Path) -> None:
    gone, here = tmp_path / "gone.png", str(records[0].image)
    for file in (run / "tuned").iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace(here, str(gone)))
    with pytest.raises(DataError, match=re.escape(str(gone))):
        write(run, [replace(records[0], image=gone)], evaluations=[tmp_path])


def test_a_loss_that_is_not_finite_is_no_point(run: Path, records: list[ImageRecord], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": null}\n')
    assert "<h2>Training</h2>" not in write(run, records, logs={"broken": log})
    assert "300 steps" in write(run, records)

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vistune.cli import main
from vistune.errors import CheckpointError, VistuneError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.report import write_report
from vistune.evaluate.results import Scores, load_scores, load_verdicts
from vistune.evaluate.runner import run_benchmarks
from vistune.records import ImageRecord

Says = type
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"&<!-- {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def run(records: list[ImageRecord], says: Says, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is right except about positions, and one that says yes; with a log of 300 steps."""
    folder = tmp_path_factory.mktemp("run")
    made = {name: benchmarks.get(name)(Setting(annotated=records)) for name in ("scene_qa", "chair")}
    known = {(q.images[0], q.text): q for one in made.values() for q in one.questions()}

    def right(image: Path, text: str) -> str:
        question = known[image, text]
        return HOSTILE if question.type == "position" else ", ".join(question.references)

    run_benchmarks(says(right), made, folder / "tuned", label="tuned")
    run_benchmarks(says(lambda *_: "Yes."), made, folder / "blind", label=f"<i>blind</i>{HOSTILE}")
    rows = [{"step": step, "loss": 1 + 1 / step, "lr": 0.1, "stage": "align"} for step in range(1, 301)]
    rows.insert(1, {"step": 1, "loss": None})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def page(run: Path, records: list[ImageRecord]) -> Path:
    """The report of both, with boxes of hostile names."""
    boxed = [replace(record, boxes=tuple(replace(box, category=HOSTILE) for box in record.boxes)) for record in records]
    return write_report(
        run / "out", [run / "tuned", run / "blind"], records=boxed, logs={"align": run / "log.jsonl"},
        details={"seed": "0", HOSTILE: HOSTILE}, title=HOSTILE, about="An assistant.",
    )  # fmt: skip


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of an evaluation with other rows of verdicts."""
    shutil.copytree(folder, target)
    rows = [change(row) for row in load_verdicts(folder)]
    (target / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def shown(page: Any) -> int:
    return int(page.locator("#count").inner_text().split()[0].replace(",", ""))


def test_hostile_texts_are_text(page: Path, pages: Any) -> None:
    shown = pages.open(page)
    shown.fill("[name=text]", "window.hacked")
    shown.locator(".row button").first.click()
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("dialog .text").nth(3).inner_text() == HOSTILE
    assert shown.locator("dialog svg text").first.text_content() == HOSTILE
    assert shown.locator("body script").count() == 2
    assert shown.locator("[onerror], [src=x], main i i i").count() == 0
    assert shown.locator("h1").inner_text() == HOSTILE
    images = {f"{page.parent.as_uri()}/report_images/{path.name}" for path in (page.parent / "report_images").iterdir()}
    assert len(pages.complaints) == 1  # the larger image is the only other file that is opened, on the click
    assert pages.complaints.pop() in images


def test_no_script_but_its_own_can_run(page: Path, pages: Any) -> None:
    broken = page.with_name("broken.html")
    broken.write_text(page.read_text().replace("<main>", "<main><script>window.hacked = 1</script>", 1))
    assert pages.open(broken).evaluate("window.hacked") is None
    assert "violates the following Content Security Policy" in pages.complaints.pop()


def test_scores_and_differences_with_intervals(page: Path, pages: Any, run: Path) -> None:
    shown = pages.open(page)
    tuned, blind = (load_scores(run / name) for name in ("tuned", "blind"))
    cells = shown.locator("#scores + p + .card td").all_inner_texts()
    for scores in (tuned, blind):
        for one in scores.measures.values():
            if one.value is not None:
                assert f"{100 * one.value:.1f} {100 * one.low:.1f} to {100 * one.high:.1f}" in cells
    row = shown.locator(".gaps tr", has_text="scene_qa").inner_text()
    assert f"{100 * (blind.value('accuracy') - tuned.value('accuracy')):+.1f} *" in row
    assert shown.locator(".chart").count() == 1  # scene_qa by type
    assert "300 steps" in shown.locator("#training + p + .plots").inner_text()


def test_filters_find_what_the_files_say(page: Path, pages: Any, run: Path) -> None:
    opened = pages.open(page)
    tuned, blind = (
        {(row["benchmark"], row["question_id"]): row for row in load_verdicts(run / name)}
        for name in ("tuned", "blind")
    )
    assert shown(opened) == len(tuned)

    def check(expected: Callable[[dict[str, Any], dict[str, Any]], bool], **chosen: str) -> None:
        opened.keyboard.press("Escape")
        for name, content in chosen.items():
            (opened.fill if name == "text" else opened.select_option)(f"[name={name}]", content)
        assert shown(opened) == sum(expected(row, blind[key]) for key, row in tuned.items()) > 0

    check(lambda a, _: a["value"] == 0, verdict="wrong")
    check(lambda a, _: a["value"] == 1 and a["type"] == "count", verdict="right", type="count")
    check(lambda _, b: b["value"] is None, verdict="unscored", a="1")
    check(lambda a, _: a["benchmark"] == "chair", benchmark="chair")
    check(lambda a, b: (a["value"], b["value"]) == (1, 0), change="worse")
    check(lambda a, b: (a["value"], b["value"]) == (1, 0), change="better", a="1", b="0")
    check(lambda a, b: a["value"] != b["value"], change="changed")
    check(lambda a, _: "how many" in a["prompt"].lower(), text="HOW many")
    opened.fill("[name=text]", "nothing has this")
    assert opened.locator("#none").is_visible()
    assert opened.locator(".row").count() == 0
    opened.keyboard.press("Escape")
    better = opened.locator(".gaps tr", has_text="existence").locator("button").nth(1)
    number = int(better.inner_text())
    better.click()
    assert shown(opened) == number > 0
    assert opened.input_value("[name=type]") == "existence"
    opened.select_option("[name=benchmark]", "chair")  # whose questions have no type
    assert opened.input_value("[name=type]") == ""


def test_rows_are_drawn_as_they_are_scrolled_and_opened_by_keys(page: Path, pages: Any) -> None:
    opened = pages.open(page)
    opened.select_option("[name=order]", "file")
    opened.locator("#answers").scroll_into_view_if_needed()
    places = "[...document.querySelectorAll('.row')].map(one => Number(one.ariaPosInSet))"
    total = shown(opened)
    opened.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    opened.locator(f".row[aria-posinset='{total}']").wait_for()
    found = opened.evaluate(places)
    assert found == sorted(found)
    assert len(found) < 40 < total
    opened.keyboard.press("j")
    opened.keyboard.press("j")
    assert opened.evaluate("Number(document.activeElement.closest('.row').ariaPosInSet)") == 2
    opened.keyboard.press("Enter")
    assert opened.locator("dialog").is_visible()
    first = opened.locator("dialog .prompt").inner_text()
    assert opened.locator("dialog .runs > div").count() == 2
    opened.keyboard.press("j")
    assert opened.locator("dialog header .meta").inner_text() == opened.evaluate("about(data.questions[2])")
    opened.keyboard.press("k")
    assert opened.locator("dialog .prompt").inner_text() == first
    assert opened.locator("dialog .frame svg").first.is_visible()
    opened.keyboard.press("b")
    assert not opened.locator("dialog .frame svg").first.is_visible()
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog").is_visible()
    pages.complaints.clear()  # the larger images


def test_images_with_wrong_answers_come_first(page: Path, pages: Any) -> None:
    opened = pages.open(page)
    values = opened.evaluate("shown.map(number => data.questions[number].answers[0].value)")
    images = opened.evaluate("shown.map(number => data.questions[number].images[0])")
    assert values[0] == 0
    last = list(dict.fromkeys(images))[-1]
    assert all(value for value, image in zip(values, images, strict=True) if image == last)
    assert len(set(images)) == sum(a != b for a, b in pairwise(images)) + 1  # the questions about one are together


def test_a_judges_text_a_partly_right_answer_and_an_image_that_is_gone(run: Path, pages: Any, tmp_path: Path) -> None:
    gone = load_verdicts(run / "tuned")[0]["images"][0]

    def change(row: dict[str, Any]) -> dict[str, Any]:
        images = [image.replace(gone, "/gone.png") for image in row["images"]]
        return row | {"images": images, "value": 0.7, "explanation": "judge, answer first:\n7 9\nIt is <b>fine</b>."}

    page = write_report(tmp_path, [changed(run / "tuned", tmp_path / "judged", change)])
    opened = pages.open(page)
    assert "1 of these images cannot be read, such as /gone.png" in opened.locator("main > .note").first.inner_text()
    assert opened.locator("[name=a], [name=change]").count() == 0
    opened.select_option("[name=order]", "file")
    row = opened.locator(".row").first
    assert row.locator("img").count() == 0
    assert "70 %" in row.inner_text()
    row.locator("button").click()
    assert opened.locator("dialog .why").last.inner_text().endswith("7 9\nIt is <b>fine</b>.")
    assert opened.locator("dialog .gone").is_visible()
    assert pages.complaints == []


def test_runs_of_one_label_other_questions_and_other_prompts(run: Path, pages: Any, tmp_path: Path) -> None:
    first = load_verdicts(run / "tuned")[0]["question_id"]
    other = changed(
        run / "tuned",
        tmp_path / "other",
        lambda row: row | ({"prompt": "Otherwise?"} if row["question_id"] == first else {}),
    )
    rows = [row for row in load_verdicts(other) if row["benchmark"] == "scene_qa"]
    (other / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = load_scores(other)
    Scores("tuned", {"scene_qa": scores.benchmarks["scene_qa"]}).write(other)
    opened = pages.open(write_report(tmp_path, [run / "tuned", other]))
    assert opened.locator("thead th.main").first.inner_text() == f"tuned ({run / 'tuned'})"
    opened.fill("[name=text]", first)
    opened.locator(".row button").first.click()
    assert "Otherwise?" in opened.locator("dialog .runs > div").nth(1).inner_text()
    opened.keyboard.press("Escape")
    opened.keyboard.press("Escape")
    opened.select_option("[name=benchmark]", "chair")
    assert "not evaluated" in opened.locator(".row").first.inner_text()
    pages.complaints.clear()  # the larger image


def test_each_image_is_in_the_page_once(page: Path, records: list[ImageRecord]) -> None:
    assert page.read_text().count("data:image/webp;base64") == len(records)
    assert len(list((page.parent / "report_images").iterdir())) == len(records)


def test_the_command_writes_beside_the_first_run_and_prints_the_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "tuned", tmp_path / "runs" / "a")
    assert main(["report", str(tmp_path / "runs" / "a")]) == 0
    out = capsys.readouterr().out
    assert "scene_qa" in out
    assert out.endswith(f"report: {tmp_path / 'runs' / 'report.html'}\n")
    assert main(["report", str(run / "tuned"), str(run / "blind"), "--out", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "report.html").is_file()


def test_folders_that_cannot_be_reported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there are no scores here"):
        write_report(tmp_path, [tmp_path])
    shutil.copytree(run / "tuned", tmp_path / "old")
    (tmp_path / "old" / "verdicts.jsonl").unlink()
    with pytest.raises(CheckpointError, match="there are no verdicts here"):
        write_report(tmp_path, [tmp_path / "old"])
    (tmp_path / "old" / "scores.json").write_text('{"label": "old", "measures": {}}')
    with pytest.raises(CheckpointError, match="an older version"):
        write_report(tmp_path, [tmp_path / "old"])
    shutil.copytree(run / "tuned", tmp_path / "judged")
    scores = json.loads((tmp_path / "judged" / "scores.json").read_text())
    scores["benchmarks"]["chair"]["protocol"] = {"truth": "boxes"}
    (tmp_path / "judged" / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(VistuneError, match="not comparable, the truth differ"):
        write_report(tmp_path, [run / "tuned", tmp_path / "judged"])
    assert not (tmp_path / "report.html").exists()

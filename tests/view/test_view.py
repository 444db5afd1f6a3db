from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.cli import main
from vistune.errors import DataError
from vistune.formats.conversations import FORMATS, output_path, write_conversations
from vistune.records import Box, Conversation, ImageRecord, Turn
from vistune.view.page import write_view
from vistune.view.samples import draw_samples


@pytest.fixture(scope="module")
def page(run: Path, records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "view.html"
    assert write_view(run, path, images=records[0].image.parent, records=records, limit=200) == 32
    return path


def test_hostile_texts_are_text(page: Path, pages: Any, records: list[ImageRecord]) -> None:
    shown = pages.open(page)
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("article").count() == 32
    assert shown.locator("article script, article iframe, article a, article b, article [onerror]").count() == 0
    text = shown.locator("main").inner_text()
    for record in records:
        for caption in record.captions:
            assert " ".join(caption.split()) in " ".join(text.split())
    assert "<i>model</i>" in shown.locator("main").text_content()
    assert pages.complaints == []


def test_even_what_got_in_could_not_run(page: Path, pages: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("<main ", "<main><script>window.hacked = 1</script>", 1))
    shown = pages.open(broken)
    assert shown.locator("main > script").count() == 1
    assert shown.evaluate("window.hacked") is None
    assert "violates the following Content Security Policy" in pages.complaints.pop()


def test_images_boxes_and_what_is_missing(page: Path, pages: Any, records: list[ImageRecord]) -> None:
    shown = pages.open(page)
    sizes = shown.eval_on_selector_all("article img", "all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert sizes == [[64, 48]] * 30
    assert shown.locator(".frame.gone .why").all_inner_texts() == [f"{records[15].image} does not exist"] * 2
    frame, box = (
        shown.locator(f"article .frame {part}").first.bounding_box() for part in ("img", "rect[data-name=dog]")
    )
    assert box["x"] - frame["x"] == pytest.approx(0.4 * frame["width"], abs=4)
    assert box["y"] - frame["y"] == pytest.approx(0.4 * frame["height"], abs=4)
    gone = shown.locator(".frame.gone").first.bounding_box()
    assert gone["width"] / gone["height"] == pytest.approx(64 / 48, abs=0.03)


def test_filters_and_keys(page: Path, pages: Any, run: Path) -> None:
    shown = pages.open(page)
    rejected = [json.loads(line) for line in (run / "rejected.jsonl").read_text().splitlines()]

    def visible() -> int:
        return int(shown.locator("article:visible").count())

    shown.select_option("[name=verdict]", "filtered")
    assert visible() == sum(row["verdict"] == "filtered" for row in rejected) > 0
    shown.select_option("[name=reason]", "refusal")
    assert visible() == sum("refusal" in row["reasons"] for row in rejected) > 0
    shown.select_option("[name=kind]", "detail")
    assert visible() == sum("refusal" in row["reasons"] and row["kind"] == "detail" for row in rejected) > 0
    assert shown.locator("#count").inner_text() == f"{visible()} of 32 samples"
    shown.keyboard.press("Escape")
    assert visible() == 32
    shown.keyboard.press("/")
    shown.keyboard.type("NUMBER 3, bj")  # letters typed into the field are no commands
    assert visible() == 0
    assert shown.locator("#none").is_visible()
    shown.keyboard.press("Escape")
    for key, at in (("j", 0), ("j", 1), ("ArrowRight", 2), ("k", 1), ("k", 0), ("k", 0)):
        shown.keyboard.press(key)
        assert shown.evaluate("articles.indexOf(document.activeElement)") == at
    assert not shown.locator("details[open]").count()
    shown.keyboard.press("p")
    assert shown.locator("details[open]").count() == 1
    shown.keyboard.press("b")
    assert not shown.locator(".frame svg:not(.shape)").first.is_visible()
    assert pages.complaints == []


def test_one_file_that_asks_for_no_other(page: Path) -> None:
    html = page.read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:image/webp)|url\(|@import""", re.sub(r"&[#\w]+;", "", html))


def test_samples_are_drawn_by_seed(run: Path) -> None:
    drawn = [[one.id for one in draw_samples(run, 10, seed)] for seed in (0, 0, 1)]
    assert len(drawn[0]) == 10
    assert drawn[0] == drawn[1] != drawn[2]
    order = [one.id for one in draw_samples(run, 200, 0)]
    assert [id_ for id_ in order if id_ in drawn[0]] == drawn[0]
    assert draw_samples(run, 0, 0) == []


def test_rejected_samples_alone_with_their_raw_text(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "rejected.jsonl").read_text().splitlines()]
    drawn = draw_samples(run, 200, 0, only_rejected=True)
    assert [(one.id, one.text, one.provenance["reasons"]) for one in drawn] == [
        (row["id"], row["text"], row["reasons"]) for row in rows
    ]
    with pytest.raises(DataError, match="holds no rejected samples"):
        draw_samples(run / "instruct.json", 200, 0, only_rejected=True)


@pytest.mark.parametrize("form", FORMATS)
def test_data_files_of_each_format(form: str, tmp_path: Path, records: list[ImageRecord]) -> None:
    turns = (Turn("user", "What is it?\n<image>"), Turn("assistant", "A dog."))
    conversations = [Conversation(f"{record.id}-x", turns, (record.image.name,), "x") for record in records]
    write_conversations(conversations, tmp_path / "data", form)
    path = output_path(tmp_path / "data", form)
    assert write_view(path, tmp_path / "v.html", images=records[0].image.parent, records=records, limit=5) == 5
    html = (tmp_path / "v.html").read_text()
    assert html.count("A dog.</div>") == html.count("What is it?</div>") == 5
    assert html.count("<rect data-name") == 10


def test_both_answers_of_a_pair(tmp_path: Path, records: list[ImageRecord]) -> None:
    row = {"images": [records[0].image.name], "prompt": "What is it?", "chosen": "A dog.", "rejected": "A cat."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    assert write_view(tmp_path / "pairs.jsonl", tmp_path / "v.html", images=records[0].image.parent) == 1
    html = (tmp_path / "v.html").read_text()
    assert "A dog.</div>" in html
    assert "<span>rejected</span>A cat.</div>" in html


def test_an_image_within_the_record_and_one_that_is_broken(tmp_path: Path, records: list[ImageRecord]) -> None:
    import base64

    inline = f"data:image/png;base64,{base64.b64encode(records[0].image.read_bytes()).decode()}"
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    (tmp_path / "broken.png").write_bytes(b"no image")
    rows: list[dict[str, Any]] = [{"image": image, "conversations": turns} for image in (inline, "broken.png")]
    rows.append({"conversations": [{**turns[0], "value": "What?"}, turns[1]]})
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert write_view(tmp_path / "x.json", tmp_path / "v.html") == 3
    html = (tmp_path / "v.html").read_text()
    assert html.count("data:image/webp") == 1
    assert "broken.png cannot be read" in html
    assert "no image" in html


def test_the_images_folder_is_the_one_that_the_run_noted(
    run: Path, records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))

    def images(data: Path, given: Path | None = None) -> int:
        write_view(data, tmp_path / "v.html", images=given, limit=100)
        return (tmp_path / "v.html").read_text().count("data:image/webp")

    folder = records[0].image.parent
    assert images(copy) == 0
    (copy / "run.json").write_text(json.dumps({"images": str(folder)}))
    assert images(copy) == 30
    assert images(copy / "instruct.json") == 24  # the accepted ones
    assert images(copy, tmp_path) == 0  # what the user names comes first
    (copy / "run.json").write_text(json.dumps({"images": "pictures"}))
    (tmp_path / "pictures").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert images(copy) == 30
    (copy / "run.json").write_text(json.dumps({"images": None}))
    assert images(copy) == 0
    (copy / "run.json").write_text('{"images"')
    with pytest.raises(DataError, match=r"run\.json: not valid JSON"):
        images(copy)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "{",
        "[]",
        '"text"',
        "{}",
        '{"id": 5}',
        '{"id": "1", "kind": "x", "verdict": "filtered", "image": "a"}',
    ],
)
def test_a_damaged_line_of_provenance_is_named(line: str, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    good = (run / "rejected.jsonl").read_text().splitlines()[0]
    (copy / "rejected.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=r"rejected\.jsonl: line 2"):
        draw_samples(copy, 5, 0)


def test_the_data_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "x.json"
    data.write_bytes((run / "instruct.json").read_bytes())
    with pytest.raises(DataError, match="would overwrite the data"):
        write_view(data, data)
    assert data.read_bytes() == (run / "instruct.json").read_bytes()


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(run), "--limit", "3", "--out", f"{tmp_path}/v.html"]) == 0
    assert capsys.readouterr().out == f"3 samples: {tmp_path}/v.html\n"
    assert main(["view", str(tmp_path / "nothing.json")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def _many(folder: Path, count: int) -> Path:
    """A file of samples with one of two answers; every third image has a cat, the others a dog."""
    asked = Turn("user", "What is it?\n<image>")
    turns = [(asked, Turn("assistant", answer)) for answer in ("Even.", "Odd.")]
    for name in ("cat", "dog"):
        Image.new("RGB", (64, 48)).save(folder / f"{name}.png")
    samples = [Conversation(str(n), turns[n % 2], (("dog", "cat")[n % 3 == 0] + ".png",)) for n in range(count)]
    write_conversations(samples, folder / "data")
    records = [
        ImageRecord("1", folder / "cat.png", 64, 48, (), (Box("cat", 0.3, 0.3, 0.4, 0.4),)),
        ImageRecord("2", folder / "dog.png", 64, 48, (), (Box("dog", 0.0, 0.0, 0.1, 0.1), Box("cat", 0.5, 0, 1, 1))),
    ]
    write_view(output_path(folder / "data", next(iter(FORMATS))), folder / "v.html", records=records, limit=count)
    return folder / "v.html"


def test_pages_and_filters_together(tmp_path: Path, pages: Any) -> None:
    shown = pages.open(_many(tmp_path, 190))

    def ids() -> list[int]:
        return [int(text) for text in shown.locator("article:visible .id").all_inner_texts()]

    assert ids() == list(range(50))
    for _ in range(3):
        shown.click("[aria-label='next page']")
    assert ids() == list(range(150, 190))
    assert shown.locator("[aria-label='next page']").is_disabled()
    shown.fill("[name=text]", "odd")  # back to the first page of what matches
    assert ids() == list(range(1, 101, 2))
    shown.select_option("[name=class]", "dog")
    shown.locator("[name=class]").blur()
    matching = [n for n in range(190) if n % 2 and n % 3]  # 63
    assert ids() == matching[:50]
    shown.locator("[name=text]").blur()
    for _ in range(51):
        shown.keyboard.press("j")
    assert ids() == matching[50:]
    assert pages.complaints == []


def test_of_many_samples_the_images_are_links(tmp_path: Path, pages: Any) -> None:
    folder = tmp_path / "two words & more #1"
    folder.mkdir()
    page = _many(folder, 240)
    assert "data:image" not in page.read_text()
    shown = pages.open(page)
    shown.wait_for_function("document.querySelector('article img').complete")
    assert shown.evaluate("document.querySelector('article img').naturalWidth") == 64
    assert set(pages.complaints) <= {(folder / f"{name}.png").as_uri() for name in ("cat", "dog")}
    pages.complaints.clear()


def test_one_colour_a_class_and_labels_beside_small_boxes(tmp_path: Path, pages: Any) -> None:
    shown = pages.open(_many(tmp_path, 3))
    colours = shown.eval_on_selector_all(
        "article svg > rect", "all => all.map(one => one.dataset.name + one.getAttribute('stroke'))"
    )
    assert len(colours) == 5
    assert len(set(colours)) == len({colour.partition("hsl")[2] for colour in colours}) == 2
    box, label = (shown.locator(f"svg > {part}[data-name=dog]").first.bounding_box() for part in ("rect", "g"))
    assert label["y"] >= box["y"] + box["height"] - 3 or label["x"] >= box["x"] + box["width"] - 3


def test_zoom(page: Path, pages: Any) -> None:
    shown = pages.open(page)
    before = shown.locator("article .frame").first.bounding_box()["width"]
    shown.locator("article .frame").first.click()
    after = shown.locator("#zoom .frame").bounding_box()
    assert after["width"] > 1.5 * before
    assert after["width"] / after["height"] == pytest.approx(64 / 48, abs=0.03)
    shown.keyboard.press("Escape")
    assert not shown.locator("#zoom").is_visible()
    shown.keyboard.press("j")
    shown.keyboard.press("z")
    shown.locator("#zoom .frame").click()
    assert not shown.locator("#zoom").is_visible()
    assert pages.complaints == []


def test_what_is_not_found_is_said(run: Path, tmp_path: Path, pages: Any, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    assert main(["view", str(run), "--images", str(empty), "--limit", "9", "--out", f"{tmp_path}/v.html"]) == 0
    line = f"9 of 9 images are not found in {empty}; name the folder of the images with --images DIR"
    assert capsys.readouterr().err == f"{line}\n"
    assert pages.open(tmp_path / "v.html").locator("#lost").inner_text() == line

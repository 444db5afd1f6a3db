from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vistune.data.source import DataSource
from vistune.errors import VistuneError
from vistune.formats.conversations import FORMATS, output_path
from vistune.generate import GenerateRecipe, generate
from vistune.generate.judge import JudgedSample
from vistune.generate.kinds import Prompts
from vistune.generate.plan import make_plan
from vistune.generate.report import Report
from vistune.generate.write import write_samples
from vistune.llm import Client
from vistune.recipe.training import DataRecipe
from vistune.records import Box, ImageRecord, Turn

KINDS = "conversation,detail"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def test_samples_without_a_reply_are_pending(
    records: list[ImageRecord], teacher: Client, tmp_path: Path, quiet: Console
) -> None:
    generate(GenerateRecipe(kinds=KINDS), tmp_path, records=records[:50], client=teacher, console=quiet)
    before = (tmp_path / "instruct.json").read_bytes()
    report = generate(GenerateRecipe(kinds=KINDS), tmp_path, records=records, client=teacher, console=quiet, pilot=30)
    totals = report.totals()
    assert totals["asked"] == 240 == sum(totals.values()) - 240
    assert 0 < totals["pending"] == 140 - report.sent
    assert (tmp_path / "instruct.json").read_bytes().startswith(before[:-3])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("side", ["first", "random"])
def test_every_format_holds_the_same_conversations(
    form: str, side: Any, records: list[ImageRecord], teacher: Client, tmp_path: Path, quiet: Console
) -> None:
    (tmp_path / "images").mkdir()
    here = [replace(record, image=tmp_path / "images" / record.image.name) for record in records]
    for record in here:
        record.image.touch()
    recipe = GenerateRecipe(kinds=KINDS, image_side=side, images=str(tmp_path), format=form)
    report = generate(recipe, tmp_path / "out", records=here, client=teacher, console=quiet)
    for stem, count in (("instruct", report.totals()["accepted"]), ("align", report.pairs)):
        path = output_path(tmp_path / "out" / stem, form)
        read = list(
            DataSource(DataRecipe(path=str(path), images=str(tmp_path)))
        )  # raises for what training could not use
        assert len(read) == count == len({one.id for one in read})
    about = lines(tmp_path / "out" / "provenance.jsonl")
    instruct = DataSource(DataRecipe(path=str(output_path(tmp_path / "out" / "instruct", form)), images=str(tmp_path)))
    assert [one.id for one in instruct] == [row["id"] for row in about]
    assert [one.images[0] for one in instruct] == [str(tmp_path / row["image"]) for row in about]
    first = [one.turns[0].text.startswith("<image>") for one in instruct]
    assert all(first) if side == "first" else 0.2 < sum(first) / len(first) < 0.8


def test_provenance_says_what_is_needed_to_trace_a_sample(
    records: list[ImageRecord], teacher: Client, tmp_path: Path, quiet: Console
) -> None:
    generate(GenerateRecipe(kinds=KINDS), tmp_path, records=records, client=teacher, console=quiet)
    accepted, rejected = lines(tmp_path / "provenance.jsonl"), lines(tmp_path / "rejected.jsonl")
    wanted = {"id", "record", "image", "kind", "teacher", "model", "prompt", "format", "seed", "request", "usage"}
    wanted |= {"cost", "attempts", "verdict", "reasons"}
    assert all(wanted <= row.keys() for row in accepted + rejected)
    assert all(row["verdict"] == "accepted" and row["reasons"] == [] for row in accepted)
    assert all(row["verdict"] in ("filtered", "quarantined") and row["reasons"] and row["text"] for row in rejected)


def judged(number: int, text: str = "A dog.") -> JudgedSample:
    about: dict[str, Any] = {"id": f"{number}-detail", "record": f"{number}", "image": "x.jpg", "kind": "detail"}
    about |= {"usage": {}, "cost": None, "attempts": 1, "verdict": "accepted", "reasons": []}
    return JudgedSample(about, (Turn("user", "What is it?"), Turn("assistant", text)), text)


@pytest.mark.parametrize("text", ["\u2028\x85\x0b a \r\n b \x1c \t c", '"\\"\\u0000', "\N{DOG FACE}", "]},\n[{"])
def test_no_text_breaks_a_line(text: str, tmp_path: Path) -> None:
    report = Report(["detail"])
    rows = [judged(0, text), judged(1, text).filtered("duplicate"), judged(2)]
    write_samples(rows, report, tmp_path, GenerateRecipe())
    written = json.loads((tmp_path / "instruct.json").read_text("utf-8"))
    assert [row["conversations"][1]["value"] for row in written] == [text, "A dog."]
    assert [(row["text"], row["reasons"]) for row in lines(tmp_path / "rejected.jsonl")] == [(text, ["duplicate"])]
    assert (report.totals()["accepted"], report.totals()["filtered"]) == (2, 1)


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    def failing() -> Iterator[JudgedSample]:
        yield judged(1)
        raise RuntimeError("on the way")

    write_samples([judged(0)], Report(["detail"]), tmp_path, GenerateRecipe())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="on the way"):
        write_samples(failing(), Report(["detail"]), tmp_path, GenerateRecipe())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_kinds_whose_samples_could_get_the_same_id_are_refused(records: list[ImageRecord], tmp_path: Path) -> None:
    for name in ("scene", "my-scene"):
        shutil.copytree(str(resources.files("vistune.generate") / "prompts" / "detail"), tmp_path / name)
    prompts = Prompts(tmp_path)
    with pytest.raises(VistuneError, match="could get the same id"):
        make_plan(records, {"scene": 1.0, "my-scene": 1.0}, 0, prompts=prompts)


def test_what_repeats_an_earlier_sample_is_filtered(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(40)]
    texts = [
        " ".join(words),
        " ".join(reversed(words)),
        " ".join([*words[:39], "other"]),
        " ".join(words).upper() + ".",
    ]
    about = {"kind": "detail", "verdict": "accepted", "reasons": (), "attempts": 1, "usage": {}, "cost": None}
    judged = [
        JudgedSample(about | {"id": str(n), "record": str(n), "image": f"{n}.jpg"}, turns, text)
        for n, text in enumerate(texts)
        for turns in [(Turn("user", "What is it?"), Turn("assistant", text))]
    ]
    for keep, expected in ((False, ["0", "1"]), (True, ["0", "1", "2"])):
        report = Report(["detail"])
        write_samples(judged, report, tmp_path, GenerateRecipe(keep_near_duplicates=keep))
        assert [row["id"] for row in json.loads((tmp_path / "instruct.json").read_text())] == expected
        rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
        codes = {row["id"]: row["reasons"] for row in rejected}
        assert codes == {"2": ["near_duplicate"], "3": ["duplicate"]} if not keep else {"3": ["duplicate"]}


def test_duplicates_stay_if_wanted(tmp_path: Path) -> None:
    text = "One dog " * 12
    samples = [judged(1, text), judged(2, text)]
    for recipe, count in ((GenerateRecipe(), 1), (GenerateRecipe(keep_duplicates=True), 2)):
        report = Report(["detail"])
        write_samples(samples, report, tmp_path, recipe)
        assert report.totals()["accepted"] == count


def test_images_of_one_class_give_different_samples(tmp_path: Path, quiet: Console) -> None:
    rng, records = random.Random(0), []
    for number in range(200):
        boxes = []
        for _ in range(1 if rng.random() < 0.9 else 2):
            x, y, w, h = rng.uniform(0, 0.4), rng.uniform(0, 0.4), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6)
            boxes.append(Box("raccoon", x, y, x + w, y + h))
        records.append(ImageRecord(str(number), Path(f"{number}.jpg"), 640, 480, (), tuple(boxes)))
    report = generate(GenerateRecipe(), tmp_path, records=records, console=quiet)
    for kind in ("detail", "reasoning"):
        assert report.kinds[kind].accepted >= 0.6 * len(records), dict(report.kinds[kind].reasons)


def test_boxes_alone_give_data_for_both_stages(records: list[ImageRecord], tmp_path: Path, quiet: Console) -> None:
    (tmp_path / "images").mkdir()
    here = [replace(one, image=tmp_path / "images" / one.image.name, captions=()) for one in records[:20]]
    for one in here:
        one.image.touch()
    out = tmp_path / "out"
    report = generate(GenerateRecipe(images=str(tmp_path)), out, records=here, console=quiet)
    assert (report.pairs, report.object_pairs) == (20, 20)
    for name in ("align.json", "instruct.json"):
        assert len(DataSource(DataRecipe(path=str(out / name), images=str(tmp_path))))
    assert json.loads((out / "report.json").read_text())["object_pairs"] == 20

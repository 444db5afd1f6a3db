from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Benchmark, Setting, benchmarks
from vistune.evaluate.results import load_scores, load_verdicts
from vistune.evaluate.runner import run_benchmarks
from vistune.evaluate.tables import print_scores
from vistune.records import ImageRecord

Says = type


def made(records: list[ImageRecord], seed: int = 0) -> dict[str, Benchmark]:
    return {name: benchmarks.get(name)(Setting(annotated=records, seed=seed)) for name in ("scene_qa", "chair")}


def test_an_oracle_is_right_about_everything(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    both = made(records)
    known = {(q.images[0], q.text): ", ".join(q.references) for one in both.values() for q in one.questions()}
    scores = run_benchmarks(says(lambda image, text: known[image, text]), both, tmp_path, label="oracle")
    assert scores.accuracy == scores.value("seen") == scores.value("unseen") == scores.value("recall") == 1
    assert set(scores.by_type.values()) == {1.0}
    assert scores.value("chair") == scores.value("chair_s") == 0
    assert load_scores(tmp_path) == scores


def test_always_yes_is_right_about_half_of_the_binary_questions(
    records: list[ImageRecord], says: Says, tmp_path: Path
) -> None:
    scores = run_benchmarks(says(lambda *_: "Yes."), made(records), tmp_path)
    assert scores.by_type == {"existence": 0.5, "count": 0.0, "position": 0.0, "relation": 0.5, "category": 0.0}


def test_silence_is_right_about_nothing(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = run_benchmarks(says(lambda *_: ""), made(records), tmp_path)
    assert scores.accuracy == scores.value("recall") == 0
    assert scores.value("chair") is None
    assert scores.benchmarks["chair"].unscored == 40
    exact = [row for row in load_verdicts(tmp_path) if row["benchmark"] == "scene_qa"]
    assert {row["explanation"] for row in exact} == {"is empty"}


def test_the_blind_see_gray_of_the_images_size(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    model = says(lambda *_: "No.")
    run_benchmarks(model, made(records), tmp_path, limit=2, blank_images=True)
    assert model.prompts
    for (image,), *_ in model.prompts:
        assert isinstance(image, Image.Image)
        assert (image.size, image.mode, len(image.getcolors())) == ((64, 64), "RGB", 1)


def test_files(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = run_benchmarks(says(lambda *_: "No dog."), made(records, 2), tmp_path / "new", label="no", limit=3)
    rows = load_verdicts(tmp_path / "new")
    assert sum(row["benchmark"] == "chair" for row in rows) == 3
    written = json.loads((tmp_path / "new/scores.json").read_text())
    exact = [row for row in rows if row["benchmark"] == "scene_qa"]
    assert written["benchmarks"]["scene_qa"]["n"] == len(exact)
    assert written["accuracy"] == scores.accuracy == sum(row["value"] for row in exact) / len(exact)
    assert {"by_type", "chair", "recall", "seen", "unseen"} <= set(written)


def test_only_what_is_missing_is_generated(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    complete = run_benchmarks(says(lambda _, text: text), made(records), tmp_path / "whole")
    out = tmp_path / "killed"
    run_benchmarks(says(lambda _, text: text), made(records), out)
    verdicts, answers = (out / "verdicts.jsonl").read_bytes(), (out / "answers.jsonl").read_bytes()
    (out / "answers.jsonl").write_bytes(answers[: len(answers) // 2])  # in the middle of a line
    again = says(lambda _, text: text)
    assert run_benchmarks(again, made(records), out) == complete
    assert len(again.prompts) == len(answers.splitlines()) - answers[: len(answers) // 2].count(b"\n")
    assert (out / "verdicts.jsonl").read_bytes() == verdicts
    other = says(lambda *_: "Yes.", "other weights")
    run_benchmarks(other, made(records), out)
    assert len(other.prompts) == len(answers.splitlines())


def test_answers_are_synced_to_the_disk_batch_by_batch(
    records: list[ImageRecord], says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync, path = list[int](), os.fsync, tmp_path / "answers.jsonl"

    def spy(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), path.stat()):
            synced.append(path.read_bytes().count(b"\n"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    run_benchmarks(says(lambda _, text: text), {"scene_qa": made(records)["scene_qa"]}, tmp_path, batch_size=8)
    count = path.read_bytes().count(b"\n")
    assert synced == sorted({*range(8, count, 8), count})


def test_no_question_and_no_scores_are_clear_errors(says: Says, tmp_path: Path) -> None:
    nothing = {"chair": benchmarks.get("chair")(Setting(annotated=[]))}
    with pytest.raises(DataError, match="--data"):
        run_benchmarks(says(lambda *_: ""), nothing, tmp_path)
    (tmp_path / "empty.csv").write_text("image,question,answer\n")
    empty = {"questions": benchmarks.get("questions")(Setting(tmp_path / "empty.csv"))}
    with pytest.raises(DataError, match=r"mine\.csv: the benchmark 'questions' has no question"):
        run_benchmarks(says(lambda *_: ""), empty, tmp_path, files={"questions": "mine.csv"})
    with pytest.raises(VistuneError, match="no scores here"):
        load_scores(tmp_path)


def test_the_table(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = run_benchmarks(says(lambda *_: "Yes."), made(records), tmp_path, label="yes-man")
    text = io.StringIO()
    print_scores([scores, scores], Console(file=text, width=120))
    assert text.getvalue().count("yes-man") == 2
    assert "50.0 (" in text.getvalue()
    assert "unscored answers" in text.getvalue()

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.runner import evaluate, load_answers, load_scores, print_scores
from vistune.records import ImageRecord

Says = type


def oracle(records: list[ImageRecord], seed: int = 0) -> dict[tuple[Path, str], str]:
    return {
        (question.image, question.text): question.reference
        for name in benchmarks.names()
        for question in benchmarks.get(name)(records, Setting(seed)).questions
    }


def test_an_oracle_is_right_about_everything(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    known = oracle(records)
    scores = evaluate(says(lambda image, text: known[image, text]), records, out=tmp_path, label="oracle")
    assert scores.accuracy == scores.value("seen") == scores.value("unseen") == scores.value("recall") == 1
    assert set(scores.by_type.values()) == {1.0}
    assert scores.value("chair") == scores.value("chair_s") == 0
    assert load_scores(tmp_path) == scores


def test_who_always_says_yes_gets_half_of_the_binary_questions(
    records: list[ImageRecord], says: Says, tmp_path: Path
) -> None:
    scores = evaluate(says(lambda *_: "Yes."), records, out=tmp_path, label="yes")
    assert scores.by_type == {"existence": 0.5, "count": 0.0, "position": 0.0, "relation": 0.5, "category": 0.0}


def test_who_says_nothing_is_right_about_nothing(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = evaluate(says(lambda *_: ""), records, out=tmp_path, label="silent")
    assert scores.accuracy == scores.value("recall") == 0
    assert scores.value("chair") is None
    exact = [row for row in load_answers(tmp_path) if row["benchmark"] == "scene_qa"]
    assert {row["reason"] for row in exact} == {"is empty"}


def test_the_blind_see_gray_of_the_images_size(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    model = says(lambda *_: "No.")
    evaluate(model, records, out=tmp_path, label="blind", limit=2, blank_images=True)
    assert model.asked
    for image, _ in model.asked:
        assert isinstance(image, Image.Image)
        assert (image.size, image.mode, len(image.getcolors())) == ((64, 64), "RGB", 1)


def test_files(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = evaluate(says(lambda *_: "No dog."), records, out=tmp_path / "new", label="no", seed=2, limit=3)
    rows = load_answers(tmp_path / "new")
    assert {"question_id", "prompt", "reference", "text", "correct", "model_id"} <= set(rows[0])
    assert sum(row["benchmark"] == "chair" for row in rows) == 3
    written = json.loads((tmp_path / "new/scores.json").read_text())
    exact = [row for row in rows if row["benchmark"] == "scene_qa"]
    assert written["n"] == len(exact)
    assert written["accuracy"] == scores.accuracy == sum(row["correct"] for row in exact) / len(exact)
    assert {"by_type", "chair", "recall", "seen", "unseen"} <= set(written)


def test_nothing_to_ask_and_no_scores_are_clear_errors(says: Says, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no question"):
        evaluate(says(lambda *_: ""), [], out=tmp_path, label="none")
    with pytest.raises(VistuneError, match="no scores here"):
        load_scores(tmp_path)


def test_the_table(records: list[ImageRecord], says: Says, tmp_path: Path) -> None:
    scores = evaluate(says(lambda *_: "Yes."), records, out=tmp_path, label="yes-man")
    text = io.StringIO()
    print_scores([scores, scores], Console(file=text, width=120))
    assert text.getvalue().count("yes-man") == 2
    assert "50.0 (" in text.getvalue()
    assert "CHAIR" in text.getvalue()


def test_an_assistant_is_asked(backbones: Path, records: list[ImageRecord], tmp_path: Path) -> None:
    from assembling import assemble
    from vistune.model.assistant import Assistant

    parts = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    scores = evaluate(Assistant(*parts), records, out=tmp_path, label="random", limit=1, blank_images=True)
    assert scores.measures["accuracy"].n == sum(row["benchmark"] == "scene_qa" for row in load_answers(tmp_path)) > 0

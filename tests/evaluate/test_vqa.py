from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks._vqa_text import accuracy, normalise, official_accuracy
from vistune.evaluate.benchmarks.vqa import Vqa
from vistune.evaluate.runner import measure, score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000-2,000 km/h", "10002000 kmh"),
        ("10.5", "10.5"),
        ("A/C", "c"),
        ("left-hand", "left hand"),
        ("None of the above", "0 of above"),
        ("The U.S. flag, a big one!", "us flag big 1"),
        ("dont", "don't"),
        ("couldntve couldn'tve y'alldve", "couldntve couldn't've y'alldve"),
        ("It's\n 5 o'clock:", "it's 5 o'clock:"),
    ],
)
def test_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_accuracy_is_the_mean_over_leaving_each_annotator_out() -> None:
    for equal, expected in {0: 0, 1: 0.3, 2: 0.6, 3: 0.9, 4: 1, 10: 1}.items():
        references = ["red"] * equal + ["blue"] * (10 - equal)
        assert accuracy("Red.", references) == pytest.approx(expected)


def test_the_official_rule_normalises_only_where_annotators_differ() -> None:
    assert official_accuracy("Yes", ["yes"] * 10) == 0
    assert official_accuracy("yes ", ["yes"] * 10) == 1
    assert official_accuracy("Yes", ["yes"] * 9 + ["no"]) == 1
    assert accuracy("Yes", ["yes"] * 10) == 1


def test_few_references_are_all_needed() -> None:
    assert [accuracy(text, ["a dog"]) for text in ("The dog", "cat", "")] == [1, 0, 0]
    assert accuracy("dog", ["dog", "cat"]) == 0.5


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def ten(*texts: str) -> list[dict[str, object]]:
    return [{"answer": texts[n % len(texts)], "answer_id": n + 1} for n in range(10)]


def test_vqav2(tmp_path: Path) -> None:
    questions = [{"question_id": 420 + n, "image_id": 42, "question": f"Is it {n}?"} for n in range(3)]
    answers = [
        {"question_id": 420, "image_id": 42, "answers": ten("yes"), "answer_type": "yes/no"},
        {"question_id": 421, "image_id": 42, "answers": ten("2", "two"), "answer_type": "number"},
    ]
    written(tmp_path, "questions.json", {"data_subtype": "val2014", "questions": questions})
    written(tmp_path, "annotations.json", {"annotations": answers})
    images = tmp_path / "images"
    images.mkdir()
    benchmark = Vqa(Setting(tmp_path, images=images))
    asked = list(benchmark.questions())
    assert [one.id for one in asked] == ["420", "421"]  # 422 has no annotations
    assert asked[0].images == (images / "COCO_val2014_000000000042.jpg",)
    assert asked[0].text == "Is it 0?\nAnswer the question using a single word or phrase."
    (images / "000000000042.jpg").touch()
    assert next(iter(Vqa(Setting(tmp_path, images=images)).questions())).images == (images / "000000000042.jpg",)
    scores = measure(benchmark, score(benchmark, asked, ["Yes", "Two"])).measures
    assert {name: one.value for name, one in scores.items()} == {
        "vqa-normalised": 1, "vqa": 0.5, "vqa-normalised/yes/no": 1, "vqa-normalised/number": 1,
        "vqa/yes/no": 0, "vqa/number": 1,
    }  # fmt: skip


def test_textvqa_and_vizwiz_are_one_file(tmp_path: Path) -> None:
    row = {"question_id": 7, "image_id": "ab12", "question": "What brand?", "answers": ["dell"] * 10}
    text = written(tmp_path, "text.json", {"data": [row]})
    (question,) = Vqa(Setting(text)).questions()
    assert (question.id, question.images[0].name, question.references) == ("7", "ab12.jpg", ("dell",) * 10)
    row = {"image": "VizWiz_val_1.jpg", "question": "What?", "answers": ten("box"), "answerable": 1}
    (question,) = Vqa(Setting(written(tmp_path, "vizwiz.json", [row]))).questions()
    assert question.id == question.images[0].name == "VizWiz_val_1.jpg"
    assert "Unanswerable" in question.text


def test_a_file_without_its_other_half_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "questions.json", {"questions": []})
    with pytest.raises(DataError, match=r"0 of annotations(.|\n)*TextVQA"):
        list(Vqa(Setting(path)).questions())

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vistune.cli import main
from vistune.errors import DataError, VistuneError
from vistune.evaluate.answer_files import detect
from vistune.evaluate.rescore import Truth, rescore
from vistune.evaluate.tables import ScoreTable

SPLITS = ("random", "popular", "adversarial")
SHORT = "\nAnswer the question using a single word or phrase."
Rows = list[dict[str, Any]]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def value(table: ScoreTable, name: str) -> float | None:
    score = table.cells[name].score
    return None if score is None else round(score, 6)


class TestPope:
    """Forty images; an object is present if its number is below three. The model is right but for every fifth image."""

    @pytest.fixture
    def truth(self, tmp_path: Path) -> Path:
        for place, split in enumerate(SPLITS):
            rows = [
                {"question_id": 6 * n + q + 1, "image": f"COCO_val2014_{n:012}.jpg", "text": self.text(place, q, n),
                 "label": "yes" if q % 2 == 0 else "no"}
                for n in range(40) for q in range(6)
            ]  # fmt: skip
            lines(tmp_path / f"coco/coco_pope_{split}.json", rows)
        (tmp_path / "coco/coco_co_occur.json").write_text('{"dog": ["cat"]}')
        return tmp_path / "coco"

    def text(self, split: int, q: int, n: int) -> str:
        return f"Is there a {f'thing {q} {n % 7}' if q % 2 == 0 else f'absent {split} {q} {n % 7}'} in the image?"

    def answer(self, n: int, q: int) -> str:
        return "Yes, there is one." if (q % 2 == 0) is not (n % 5 == 0) else "No"

    def answers(self, split: int, **more: Any) -> Rows:
        return [
            {"question_id": 6 * n + q + 1, "image": f"COCO_val2014_{n:012}.jpg",
             "prompt": self.text(split, q, n) + SHORT, "text": self.answer(n, q), "n": n, **more}
            for n in range(40) for q in range(6)
        ]  # fmt: skip

    def without(self, rows: Rows, *names: str) -> Rows:
        return [{key: one for key, one in row.items() if key not in names} for row in rows]

    def test_answers_with_images_in_any_order(self, tmp_path: Path, truth: Path) -> None:
        rows = self.answers(1)
        random.Random(0).shuffle(rows)
        for keys in ((), ("question_id",)):
            file = lines(tmp_path / "answers.jsonl", self.without(rows, *keys))
            (table,) = rescore([file], None, Truth([truth]))
            assert [value(table, name) for name in ("f1", "accuracy", "precision", "recall", "yes_ratio")] == [
                80, 80, 80, 80, 50
            ]  # fmt: skip
            assert table.counts == {"answered": 240, "of": 240, "missing": 0, "extra": 0, "empty": 0, "invalid": 0}

    def test_all_splits_in_one_file(self, tmp_path: Path, truth: Path) -> None:
        rows = [row for split in range(3) for row in self.answers(split)]
        (table,) = rescore([lines(tmp_path / "answers.jsonl", rows)], None, Truth([truth]))
        assert table.counts["answered"] == table.counts["of"] == 720
        assert {value(table, f"f1/{split}") for split in SPLITS} == {80}

    def test_llavas_answers_need_its_question_file(self, tmp_path: Path, truth: Path) -> None:
        asked = [
            {"question_id": 240 * place + 6 * n + q, "image": f"COCO_val2014_{n:012}.jpg",
             "text": self.text(place, q, n) + SHORT, "category": split}
            for place, split in enumerate(SPLITS) for n in range(40) for q in range(6)
        ]  # fmt: skip
        rows = [
            {"question_id": row["question_id"], "prompt": row["text"], "text": self.answer(n, q), "metadata": {}}
            for row, (n, q) in zip(asked, [(n, q) for _ in SPLITS for n in range(40) for q in range(6)], strict=True)
        ]
        answers = lines(tmp_path / "llava.jsonl", reversed(rows))
        questions = lines(tmp_path / "llava_pope_test.jsonl", asked)
        (table,) = rescore([answers], "pope", Truth([truth, questions]))
        assert table.counts["answered"] == 720
        assert {value(table, f"accuracy/{split}") for split in SPLITS} == {80}
        with pytest.raises(DataError, match="add the question file"):
            rescore([answers], "pope", Truth([truth]))

    def test_popes_own_layout_is_in_the_order_of_one_file(self, tmp_path: Path, truth: Path) -> None:
        rows = [{"question": row["prompt"].partition("\n")[0], "answer": row["text"]} for row in self.answers(2)]
        (table,) = rescore([lines(tmp_path / "own.json", rows)], None, Truth([truth]))
        assert (table.counts["answered"], value(table, "accuracy")) == (240, 80)
        random.Random(0).shuffle(rows)
        with pytest.raises(DataError, match="no images"):
            rescore([lines(tmp_path / "own.json", rows)], None, Truth([truth]))

    def test_missing_extra_and_invalid_answers_are_counted(self, tmp_path: Path, truth: Path) -> None:
        rows = [row for row in self.answers(0) if row["n"] < 30]
        rows += [{**row, "prompt": "Is there a moon in the image?"} for row in rows[:5]]
        for row in rows[6:12]:
            row["text"] = ["", "Maybe"][row["question_id"] % 2]
        (table,) = rescore([lines(tmp_path / "answers.jsonl", rows)], None, Truth([truth]))
        assert table.counts == {"answered": 180, "of": 240, "missing": 60, "extra": 5, "empty": 3, "invalid": 6}
        right = 180 - 36 - 6
        assert value(table, "accuracy") == pytest.approx(100 * right / 180)
        assert value(table, "precision") == pytest.approx(100 * (90 - 18 - 3) / (90 - 3))
        assert value(table, "yes_ratio") == pytest.approx(100 * (90 - 3) / 180)

    def test_a_file_with_labels_needs_no_truth(self, tmp_path: Path) -> None:
        rows = [{**row, "label": "yes" if row["question_id"] % 2 else "no"} for row in self.answers(0)]
        (table,) = rescore([lines(tmp_path / "answers.jsonl", rows)], None, Truth())
        assert value(table, "accuracy") == 80
        with pytest.raises(DataError, match="add --truth"):
            rescore([lines(tmp_path / "answers.jsonl", self.answers(0))], None, Truth())


class TestMme:
    LINES = (
        "1.jpg\tIs it 1? Please answer yes or no.\tYes\tYes", "1.jpg\tIs it 2? Please answer yes or no.\tNo\tNo.",
        "2.jpg\tIs it 1? Please answer yes or no.\tYes\tno", "2.jpg\tIs it 3? Please answer yes or no.\tNo\tno",
    )  # fmt: skip

    def test_texts_of_the_tool(self, tmp_path: Path) -> None:
        for category in ("count", "OCR", "code_reasoning"):
            (tmp_path / f"{category}.txt").write_text("\n".join(self.LINES) + "\n")
        for files in ([tmp_path], sorted(tmp_path.glob("*.txt"))):
            (table,) = rescore(files, None, Truth())
            assert {name: value(table, name) for name in table.cells} == {
                "score": 375, "perception": 250, "cognition": 125,
                "score/OCR": 125, "score/code_reasoning": 125, "score/count": 125,
            }  # fmt: skip

    def test_llavas_answers(self, tmp_path: Path) -> None:
        answers = tmp_path / "results"
        answers.mkdir()
        (answers / "count.txt").write_text("\n".join(line.rpartition("\t")[0] for line in self.LINES))
        rows = [
            {"question_id": f"count/{image}", "prompt": question.replace(" Please answer yes or no.", SHORT),
             "text": text}
            for image, question, _, text in (line.split("\t") for line in self.LINES)
        ]  # fmt: skip
        file = lines(tmp_path / "llava.jsonl", [*reversed(rows), {**rows[0], "question_id": "count/9.jpg"}])
        assert detect(file) == "mme"
        (table,) = rescore([file], None, Truth([answers]))
        assert value(table, "score/count" if "score/count" in table.cells else "score") == 125
        assert table.counts["extra"] == 1
        with pytest.raises(DataError, match="MME's folder"):
            rescore([file], None, Truth())


class TestVqa:
    @pytest.fixture
    def truth(self, tmp_path: Path) -> list[Path]:
        questions = [{"question_id": n, "image_id": n // 2, "question": f"What is {n}?"} for n in range(4)]
        annotations = [
            {"question_id": n, "image_id": n // 2, "answer_type": "other", "answers": [{"answer": "yes"}] * 10}
            for n in range(4)
        ]
        contents = {"questions": {"questions": questions}, "annotations": {"annotations": annotations}}
        for name, content in contents.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return [tmp_path / "annotations.json", tmp_path / "questions.json"]

    @pytest.mark.parametrize("files", [1, 2])
    def test_official_results(self, tmp_path: Path, truth: list[Path], files: int) -> None:
        rows = [{"question_id": n, "answer": text} for n, text in ((3, "Yes"), (0, "yes"), (1, "no"), (9, "yes"))]
        path = tmp_path / "results.json"
        path.write_text(json.dumps(rows))
        (table,) = rescore([path], None, Truth(truth[:files]))
        assert [value(table, name) for name in ("vqa-normalised", "vqa")] == [
            pytest.approx(200 / 3, abs=1e-5), pytest.approx(100 / 3, abs=1e-5)
        ]  # fmt: skip
        assert (table.counts["missing"], table.counts["extra"]) == (1, 1)

    def test_llavas_textvqa(self, tmp_path: Path) -> None:
        data = [
            {"question_id": n, "image_id": "ab", "question": f"What {n} is it", "answers": ["x"] * 10} for n in (1, 2)
        ]
        path = tmp_path / "textvqa.json"
        path.write_text(json.dumps({"data": data}))
        rows = [
            {"question_id": "ab", "prompt": "what 2 is it\nReference OCR token: a, b" + SHORT, "text": "X."},
            {"question_id": "ab", "prompt": "What 1 is it" + SHORT, "text": "y"},
        ]
        (table,) = rescore([lines(tmp_path / "a.jsonl", rows)], "vqa", Truth([path]))
        assert (table.counts["answered"], value(table, "vqa-normalised")) == (2, 50)


class TestMmbench:
    def table(self, path: Path, *more: Mapping[str, Any]) -> Path:
        rows = [
            {"index": n, "image": "A" * 100, "question": f"{n}?", "A": "dog", "B": "cat", "answer": "B",
             "category": "c", **({} if not more else more[n])}
            for n in (0, 1)
        ]  # fmt: skip
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
        return path

    def test_llavas_rounds(self, tmp_path: Path) -> None:
        truth = self.table(tmp_path / "truth.tsv")
        rows = [
            {"question_id": n, "round_id": turn, "prompt": f"{n}?", "text": text, "options": []}
            for n, turn, text in ((0, 0, "B"), (0, 1, "A"), (1, 0, "B. cat"), (1, 1, "B"))
        ]
        (table,) = rescore([lines(tmp_path / "answers.jsonl", rows)], None, Truth([truth]))
        assert [value(table, name) for name in ("circular", "accuracy")] == [50, 75]
        (table,) = rescore([lines(tmp_path / "answers.jsonl", rows[:3])], None, Truth([truth]))
        assert (table.cells["circular"].of, table.counts["missing"]) == (1, 1)

    def test_predictions_with_the_right_answers(self, tmp_path: Path) -> None:
        path = self.table(tmp_path / "predictions.tsv", {"prediction": "cat"}, {"prediction": "A"})
        (table,) = rescore([path], None, Truth())
        assert value(table, "accuracy") == 50
        assert not list(tmp_path.glob("**/*.jpg"))
        path.write_text(path.read_text().replace("\tB\t", "\t\t"))
        with pytest.raises(DataError, match="add --truth"):
            rescore([path], None, Truth())


def test_the_kind_is_detected_by_content(tmp_path: Path) -> None:
    rows = {
        "reviews": {"question_id": 1, "answer1_id": "a", "answer2_id": "b", "content": "8 9", "tuple": [8, 9]},
        "vqa": {"question_id": 1, "answer": "yes"},
        "mmbench": {"question_id": 1, "round_id": 0, "text": "A"},
        "pope": {"question_id": 1, "prompt": "Is there a dog in the image?" + SHORT, "text": "Yes"},
    }
    for kind, row in rows.items():
        assert detect(lines(tmp_path / "rows.jsonl", [row, row])) == kind
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"acc": 0, "results": {}, "outputs": {}}, indent=1))
    assert detect(path) == "scienceqa"
    with pytest.raises(VistuneError, match="add --as"):
        detect(lines(tmp_path / "rows.jsonl", [{"question_id": 1, "prompt": "What?", "text": "A dog"}]))


def test_reviews_and_the_share_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question_id": 1, "answer1_id": "a", "answer2_id": "b", "category": "conv", "content": "8 6\nGood."}
    rows = [{**row, "question_id": n, "tuple": [8, 6]} for n in range(10)]
    path = lines(tmp_path / "reviews.jsonl", rows)
    assert main(["rescore", str(path), "--json", str(tmp_path / "scores.json")]) == 0
    (table,) = json.loads((tmp_path / "scores.json").read_text())["tables"]
    assert table["cells"]["all"]["score"] == 75
    assert "75.0" in capsys.readouterr().out
    lines(path, [*rows, {**row, "content": "Both are fine.", "tuple": [-1, -1]}])
    assert main(["rescore", str(path)]) == 2
    captured = capsys.readouterr()
    assert "75.0" in captured.out
    assert "1 of 11 reviews" in captured.err
    assert main(["rescore", str(path), "--allow-unparsed"]) == 0


def test_no_torch(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": 1,
            "image": "1.jpg",
            "question": "Is there a dog in the image?",
            "label": "yes",
            "response": "No",
        }
    ]
    path = lines(tmp_path / "answers.jsonl", rows)
    program = "import sys; from vistune.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, "rescore", str(path)], check=True, capture_output=True)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        rescore([tmp_path / "none.jsonl"], None, Truth())
    path = lines(tmp_path / "rows.jsonl", [{"question_id": 1, "prompt": "Is there a dog in the image?"}])
    with pytest.raises(DataError, match="this has no answer"):
        rescore([path], "pope", Truth())
    with pytest.raises(VistuneError, match="--problems"):
        rescore([path], "scienceqa", Truth())

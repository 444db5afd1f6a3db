from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scienceqa_set import problem, write_set
from vistune.errors import DataError
from vistune.evaluate.scienceqa import official, tolerant
from vistune.evaluate.scienceqa_files import read_answers, scienceqa_tables
from vistune.evaluate.tables import ScoreTable

RIGHT = {str(n): "ABC"[n % 3] for n in range(101, 113)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "scienceqa")


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, indent=2))
    return path


def result_file(path: Path, outputs: dict[str, str], results: dict[str, int] | None = None) -> Path:
    return write(path, {"acc": 0.5, "correct": 1, "count": 2, "results": results or {}, "outputs": outputs})


def cells(table: ScoreTable) -> dict[str, tuple[float | None, int]]:
    return {name: (cell.right, cell.of) for name, cell in table.cells.items()}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("E", "E"), ("F", ""), ("b", ""), ("B ", ""), ("B.", ""), ("", ""), ("AB", ""),
        ("B. a dog", "B"), ("F. a dog", ""), ("B.a dog", ""),
        ("A. So the answer is C. The answer is B.", "A"),  # the first rule that fits
        ("Lecture. The answer is B.", "B"), ("The answer is B, since", "B"), ("The answer is Because.", "B"),
        ("The answer is B", ""), ("The answer is B\n", ""), ("The answer is b.", ""), ("the answer is B.", ""),
        ("The answer is B. The answer is B.", ""), ("The answer is F.", "F"),
    ],
)  # fmt: skip
def test_official_extraction(text: str, letter: str) -> None:
    reading = official(text, 3)
    assert reading.letter == letter
    assert reading.failed is not bool(letter)
    assert reading.index == ("ABC".index(letter) if letter in ("A", "B", "C") else -1)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is B", "B"), ("A lecture on A. So the answer is (C)", "C"), ("(B)", "B"), ("blue", "C"),
        ("The answer is A. No: the answer is **B**", "A"),  # what the official rule reads stays
        ("The answer is A. No: The answer is B.", "B"), ("no idea", ""), ("The answer is E.", "E"),
    ],
)  # fmt: skip
def test_tolerant_extraction(text: str, letter: str) -> None:
    assert tolerant(text, ("red", "green", "blue")).letter == letter


def test_cells_follow_the_official_rules(tmp_path: Path) -> None:
    kinds = {
        "1": problem(1, subject="natural science", hint="h", image="image.png", grade="grade6"),
        "2": problem(2, subject="social science", hint="", image="image.png", grade="grade7"),
        "3": problem(3, subject="language science", hint="h", image=None, grade="grade12"),
        "4": problem(4, subject="natural science", hint="", image=None, grade="grade1"),
    }
    problems = write(tmp_path / "problems.json", kinds)
    right = {pid: one["answer"] for pid, one in kinds.items()}
    path = result_file(tmp_path / "results.json", {}, right | {"4": -1})
    (table,) = scienceqa_tables([path], problems=problems)
    assert cells(table) == {
        "NAT": (1, 2), "SOC": (1, 1), "LAN": (1, 1), "TXT": (2, 2), "IMG": (2, 2), "NO": (0, 1),
        "G1-6": (1, 2), "G7-12": (2, 2), "Avg": (3, 4),
    }  # fmt: skip
    assert (table.counts["failed"], table.counts["failed NO"]) == (1, 1)


def test_both_numbers_of_a_published_file(data: Path, tmp_path: Path) -> None:
    outputs = {pid: f"So. The answer is {letter}." for pid, letter in RIGHT.items()}
    outputs |= {"101": "no idea", "102": "The answer is A", "103": "The answer is E."}
    results = {pid: "ABC".index(letter) for pid, letter in RIGHT.items()}  # the failures were replaced by a lucky draw
    results["103"] = -1
    path = result_file(tmp_path / "results.json", outputs, results)
    stored, strict, lenient = scienceqa_tables([path], problems=data)
    assert [stored.cells["Avg"].right, strict.cells["Avg"].right, lenient.cells["Avg"].right] == [11, 9, 10]
    assert [one.counts["failed"] for one in (stored, strict, lenient)] == [1, 2, 1]
    assert stored.counts["right by the file's own count"] == 1
    assert strict.title == "results.json: official extraction (12 of 12 answered)"
    assert strict.cells["Avg"].score == pytest.approx(75)


def test_missing_and_extra_answers_are_counted(data: Path, tmp_path: Path) -> None:
    rows = [{"question_id": pid, "prompt": "", "text": "A"} for pid in ("101", "1", "102", "102", "no")]
    rows[3]["text"] = "A. changed"
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    strict, _ = scienceqa_tables([path], problems=data / "problems.json", splits=data / "pid_splits.json")
    assert strict.title.endswith("(2 of 12 answered)")
    counts = strict.counts
    assert (counts["answered"], counts["missing"], counts["extra"], counts["failed"]) == (2, 10, 2, 0)
    assert cells(strict)["Avg"] == (1, 2)  # 102
    assert cells(strict)["Avg, missing as wrong"] == (1, 12)


def test_shapes_of_files(tmp_path: Path) -> None:
    analysis = {"question": "", "ground_truth": "A", "is_multimodal": True}
    both = {
        "correct": [{"question_id": "1", "pred": "A. x", "parsed_ans": "A", **analysis}],
        "incorrect": [{"question_id": "2", "pred": "FAILED", "parsed_ans": "FAILED", **analysis}],
    }
    for name, content in (("indented_output.jsonl", json.dumps(both, indent=2)), ("output.json", json.dumps(both))):
        (tmp_path / name).write_text(content)
        read = read_answers(tmp_path / name)
        assert (read.results, read.outputs) == ({"1": 0, "2": -1}, {"1": "A. x", "2": "FAILED"})
    (tmp_path / "one.jsonl").write_bytes(b'\xef\xbb\xbf{"question_id": 5, "text": "A"}\r\n')
    assert read_answers(tmp_path / "one.jsonl").outputs == {"5": "A"}
    read = read_answers(write(tmp_path / "only.json", {"results": {"1": "B", "2": "-1", "3": 2}}))
    assert read.results == {"1": 1, "2": -1, "3": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"scores": []}', "no answers to ScienceQA"),
        ('{"results": ', "not valid JSON"),
        ('{"question_id": "101", "text": "A"}\n{"question_id": "102"}\n', "answer 2"),
        ('{"question_id": "101", "text": "A"}\n{"question_id"\n', "line 2"),
        ('{"results": {"x": 1}}', "none of its 1 answers"),
        ('{"outputs": {"101": "\udcff"}}', "not valid JSON"),
        ("3", "no answers to ScienceQA"),
    ],
)
def test_broken_files_are_named(content: str, message: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        scienceqa_tables([path], problems=data)


def test_ensembles_from_stored_answers(data: Path, tmp_path: Path) -> None:
    def says(pid: str, right: bool) -> str:
        return f"The answer is {RIGHT[pid] if right else 'D'}."

    first = {pid: says(pid, int(pid) < 109) for pid in RIGHT}  # 8 right
    second = {pid: says(pid, int(pid) > 104) for pid in RIGHT}  # 8 right
    second["101"] = "I cannot see the image."
    del second["112"]
    third = {pid: says(pid, pid in ("102", "109")) for pid in RIGHT if pid != "103"} | {"110": "unsure"}
    files = [result_file(tmp_path / f"{name}.json", one) for name, one in (("a", first), ("b", second))]
    rows = [json.dumps({"question_id": pid, "text": text}) for pid, text in third.items()]
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    tables = scienceqa_tables([files[0]], problems=data, second=files[1], third=tmp_path / "c.jsonl")
    _, _, pair, complement, judge = tables
    assert cells(pair) == {
        "first": (8, 11), "second": (7, 11), "complement": (8, 11), "judge": (7, 11), "both right": (4, 11),
        "either right (upper bound)": (11, 11),
    }  # fmt: skip
    # different: 101-104 (second wrong or failed) and 109-111 (first wrong); 110 is unsure, 103 has no third answer
    assert pair.counts == {
        "answered by both": 11, "missing": 1, "differ": 7, "failed first": 0, "failed second": 1,
        "differ without a third answer": 1,
    }  # fmt: skip
    assert cells(complement)["Avg"] == (8, 11)
    assert cells(judge)["Avg"] == (7, 11)
    without = scienceqa_tables([files[0]], problems=data, second=files[1])
    assert [table.title for table in without[2:]] == ["a.json with b.json", "a.json with b.json: complement"]


def test_no_model_is_loaded(data: Path, tmp_path: Path) -> None:
    path = result_file(tmp_path / "results.json", {"101": "A"})
    script = (
        "import sys; from pathlib import Path; from vistune.evaluate.scienceqa_files import scienceqa_tables\n"
        "scienceqa_tables([Path(sys.argv[1])], problems=Path(sys.argv[2]))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(path), str(data)], check=True)

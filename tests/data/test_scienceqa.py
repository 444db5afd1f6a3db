from __future__ import annotations

import json
from pathlib import Path

import pytest

from scienceqa_set import problem, write_set
from vistune.cli import main
from vistune.data.scienceqa import Problem, load_problems, split_ids
from vistune.errors import DataError


def load(folder: Path, **changes: object) -> Problem:
    (folder / "problems.json").write_text(json.dumps({"7": problem(7, **changes)}))
    return load_problems(folder)["7"]


def test_prompts_are_laid_out_as_llava_does(tmp_path: Path) -> None:
    one = load(tmp_path, hint="", question="What  is  it?", choices=["a {b}", "c"])
    assert one.prompt("QCM-LEA") == "What is it?\nContext: N/A\nOptions: (A) a {b} (B) c"
    one = load(tmp_path, hint="A hint.\n")
    first, second = "Which colour is box 7?", "Options: (A) red (B) green (C) blue"
    assert one.prompt("CQM-A") == f"Context: A hint.\nQuestion: {first}\n{second}"


@pytest.mark.parametrize(
    ("form", "lecture", "solution", "target"),
    [
        ("QCM-A", "L", "E", "The answer is B."),
        ("QCM-LEA", "L\nM", "E", "L\nM E The answer is B."),
        ("QCM-LEA", "", "E", "E The answer is B."),
        ("QCM-LEA", "", "", "The answer is B."),
        ("QCM-ALE", "L", "", "The answer is B. BECAUSE: L"),
        ("QCM-ALE", "", "E", "The answer is B. BECAUSE: E"),
        ("QCM-ALE", "", "", "The answer is B."),
    ],
)
def test_targets(form: str, lecture: str, solution: str, target: str, tmp_path: Path) -> None:
    assert load(tmp_path, lecture=lecture, solution=solution).target(form) == target


def test_the_command_writes_llavas_json(tmp_path: Path) -> None:
    data = write_set(tmp_path / "scienceqa", train=3)
    assert main(["scienceqa", str(data), "--format", "QCM-ALE", "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "train_QCM-ALE.json").read_text())
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row.get("image") for row in rows] == [None, "train/2/image.png", None]
    assert (data / "images" / rows[1]["image"]).is_file()
    options = "Options: (A) red (B) green (C) blue"
    assert rows[1]["conversations"] == [
        {"from": "human", "value": f"<image>\nWhich colour is box 2?\nContext: N/A\n{options}"},
        {"from": "gpt", "value": "The answer is C. BECAUSE: Boxes have\ncolours. Box 2 is blue."},
    ]


def test_without_pid_splits_each_problems_own_split_counts(tmp_path: Path) -> None:
    data = write_set(tmp_path / "scienceqa", train=3, test=2)
    (data / "pid_splits.json").unlink()
    problems = load_problems(data / "problems.json")
    assert split_ids(problems, data, "test", "val") == {"test": ["101", "102"]}


def test_mistakes_name_the_file_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"problems\.json: there is no such file"):
        load_problems(tmp_path)
    for broken in ({"answer": 3}, {"grade": "first"}, {"choices": None}):
        with pytest.raises(DataError, match="problem 7"):
            load(tmp_path, **broken)
    data = write_set(tmp_path / "scienceqa", train=3)
    with pytest.raises(DataError, match="did you mean 'train'"):
        split_ids(load_problems(data), data, "trian")
    (data / "pid_splits.json").write_text('{"train": ["1", "999"]}')
    with pytest.raises(DataError, match="such as 999"):
        split_ids(load_problems(data), data, "train")

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import stdev

import pytest

from vistune.errors import DataError
from vistune.evaluate.reviews import first_line_scores, read_scores, review_tables
from vistune.evaluate.tables import Cell


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 7\nBoth are good.", (8, 7)),
        ("8.5,7\nBoth", (8.5, 7)),
        ("Scores: 8/10, 7/10\n\nBoth", (8, 7)),
        ("**8, 7**\nThe second has 3 mistakes and 2 slips.", (8, 7)),
        ("Assistant 1: 8\nAssistant 2: 7\n\nThe second has 3 mistakes.", (8, 7)),
        ("Assistant 2: 7\nAssistant 1: 8", (8, 7)),
        ("It solves 2 of 3 steps.\n\nI'd give Assistant 1 an 8 out of 10 and Assistant 2 a 7 out of 10.", (8, 7)),
        ("Step 1: 3 + 4 = 7.\n\nTaking all this into account, here is the tuple: (8, 7)", (8, 7)),
        ("Step 1: 3 + 4 = 7.\n\n(8, 7)\n\nAssistant 2 has 1 mistake and 2 slips.", (8, 7)),
        ("On a scale of 1 to 10, the scores are 8 and 7.", (8, 7)),
        ("", None),
        ("8", None),
        ("8\nThe second has 3 mistakes.", None),
        ("0 7", None),
        ("11 7", None),
        ("nan 7", None),
        ("8-9", None),
        ("8 7 6", None),
        ("Assistant 1 names 3 dogs and Assistant 2 names 4.", None),
        ("Both answers name 3 dogs and 2 cats.", None),
    ],
)
def test_scores_are_read_where_a_text_has_nothing_but_a_verdict(text: str, scores: tuple[float, float] | None) -> None:
    assert read_scores(text) == scores


def test_the_official_rule_reads_the_first_line_only() -> None:
    assert first_line_scores("8 7\nx") == first_line_scores("8,7") == (8, 7)
    for text in ("8, 7", "8 7 ", "(8, 7)", "\n8 7", "Scores: 8 7", ""):
        assert first_line_scores(text) is None


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def llava(scores: list[tuple[str, float, float]], **more: object) -> list[dict[str, object]]:
    return [
        {"id": n + 1, "question_id": n, "answer1_id": f"a{n}", "answer2_id": f"b{n}", "category": f"llava_bench_{kind}",
         "content": f"{one:g} {two:g}\nSo", "tuple": [one, two]} | more
        for n, (kind, one, two) in enumerate(scores)
    ]  # fmt: skip


ROWS = [("conv", 9.0, 8.0), ("conv", 8.0, 6.0), ("complex", 9.0, 9.0), ("complex", 8.5, 7.0), ("detail", 7.0, 4.0)]


def scores_of(cells: dict[str, Cell] | object) -> dict[str, float | None]:
    assert isinstance(cells, dict)
    return {name: cell.score for name, cell in cells.items()}


def test_llavas_files(tmp_path: Path) -> None:
    [table] = review_tables([write(tmp_path / "a.jsonl", llava(ROWS))])
    assert scores_of(table.cells) == {
        "all": pytest.approx(100 * 34 / 41.5), "all, official rounding": 81.9,
        "llava_bench_complex": pytest.approx(100 * 16 / 17.5), "llava_bench_complex, official rounding": 91.4,
        "llava_bench_conv": pytest.approx(100 * 14 / 17), "llava_bench_conv, official rounding": 82.4,
        "llava_bench_detail": pytest.approx(100 * 4 / 7), "llava_bench_detail, official rounding": 57.1,
    }  # fmt: skip
    assert (table.cells["all"].of, table.cells["all"].right) == (5, 34)
    assert table.counts == {"reviews": 5, "unparsed as stored": 0, "of these reparsed": 0}
    [paper] = review_tables([tmp_path / "a.jsonl"], protocol="paper")
    assert scores_of(paper.cells)["all"] == 81.9
    assert scores_of(paper.cells)["all, ratio of sums"] == scores_of(table.cells)["all"]


def test_the_official_rounding_moves_a_tenth(tmp_path: Path) -> None:
    """The means 8.0166… and 5.1666… are rounded to 8.017 and 5.167 first."""
    path = write(tmp_path / "a.jsonl", llava([("conv", 8.0, 5.0)] * 29 + [("conv", 8.5, 10.0)]))
    [table] = review_tables([path], protocol="paper")
    assert table.cells["all"].score == 64.5
    assert table.cells["all, ratio of sums"].score == pytest.approx(64.449, abs=5e-4)


def test_unparsed_rows_are_counted_and_both_scores_given(tmp_path: Path) -> None:
    """Vicuna's shape, without categories: one verdict at the end of the text, one reply without any."""
    rows: list[dict[str, object]] = [
        {"review_id": "x", "question_id": n, "answer1_id": "a", "answer2_id": "b", "text": text, "score": score}
        for n, (text, score) in enumerate(
            [("8 6\nSo", [8.0, 6.0]), ("So.\n\n(6, 9)", [-1, -1]), ("I cannot say.", [-1, -1]), ("9 9", [9.0, 9.0])]
        )
    ]
    [table] = review_tables([write(tmp_path / "a.jsonl", rows)])
    assert scores_of(table.cells) == {
        "all": pytest.approx(100 * 15 / 17), "all, reparsed": pytest.approx(100 * 24 / 23),
        "all, official rounding": 86.7, "all, official rounding, reparsed": 104.3,
    }  # fmt: skip
    assert table.counts == {"reviews": 4, "unparsed as stored": 2, "of these reparsed": 1}
    assert [cell.of for cell in table.cells.values()] == [2, 3, 4, 3]
    for row in rows:
        del row["score"]
    [without] = review_tables([write(tmp_path / "b.jsonl", rows)])
    assert without.cells == table.cells


def test_runs_of_the_judge_have_a_mean_with_its_deviation(tmp_path: Path) -> None:
    shifted = [(kind, one, min(10, two + 1)) for kind, one, two in ROWS]
    files = [write(tmp_path / f"{n}.jsonl", llava(rows)) for n, rows in enumerate([ROWS, shifted])]
    unparsed = llava(ROWS)
    unparsed[0] |= {"content": "Prose.\n\n9 8", "tuple": [-1, -1]}
    other = write(tmp_path / "other.jsonl", llava(ROWS, answer2_id="of another model"))
    *single, mean = review_tables([*files, other])
    assert len(single) == 3
    pair = [single[n].cells["all"].score for n in range(2)]
    assert mean.cells["all"].score == pytest.approx(sum(pair) / 2)
    assert mean.cells["all, SD"].score == pytest.approx(stdev(pair))
    assert mean.title.startswith("mean of 2 runs")
    *_, mean = review_tables([write(files[1], unparsed), files[0]])
    assert mean.cells["all, reparsed"].score == pytest.approx(pair[0])
    assert "llava_bench_conv, reparsed" in mean.cells
    assert "llava_bench_detail, reparsed" not in mean.cells


@pytest.mark.parametrize("row", [{"a": 1}, {"question_id": 1, "tuple": [1]}, {"question_id": 1, "tuple": ["x", 2]}])
def test_other_files_are_an_error_with_the_row(row: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1"):
        review_tables([write(tmp_path / "a.jsonl", [row])])


def test_no_torch_is_imported() -> None:
    code = "import sys, vistune.evaluate.reviews; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.questions import OwnQuestions
from vistune.evaluate.runner import measure, score


def opened(tmp_path: Path, *rows: dict[str, object]) -> OwnQuestions:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"image": "1.png", "question": "?"} | row) for row in rows))
    return OwnQuestions(Setting(path))


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        ({"answer": "A hot dog."}, "hot dog", "a dog"),
        ({"answer": "dog", "type": "contains"}, "I see a dog here.", "hotdogs"),
        ({"choices": ["dog", "hot dog"], "answer": "hot dog"}, "B", "A"),
        ({"choices": ["dog", "hot dog"], "answer": "hot dog"}, "It is a hot dog.", "A dog."),
        ({"choices": ["dog", "cat"], "answer": "dog"}, "The answer is A.", "A dog or a cat"),
        ({"answer": 3, "type": "number"}, "There are three dogs.", "4"),
        ({"answer": "1,200.5", "type": "number"}, "about 1200.5 g", "1,200"),
        ({"answer": [10, 10, 20, 20], "type": "box"}, "[11, 10, 20, 20]", "[0, 0, 12, 12]"),
        ({"answers": ["red"] * 8 + ["crimson"] * 2}, "Red", "crimson?"),
    ],
)
def test_rules(row: dict[str, object], right: str, wrong: str, tmp_path: Path) -> None:
    benchmark = opened(tmp_path, row)
    (question,) = benchmark.questions()
    assert benchmark.score(question, right).value == 1
    verdict = benchmark.score(question, wrong)
    assert verdict.value is not None
    assert verdict.value < 1
    assert verdict.explanation
    assert benchmark.score(question, "").value == 0


def test_the_agreement_of_annotators_counts(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, {"answers": ["red"] * 8 + ["crimson"] * 2})
    (question,) = benchmark.questions()
    assert benchmark.score(question, "crimson").value == pytest.approx(0.6)


def test_scores_by_category(tmp_path: Path) -> None:
    rows = [{"answer": "yes", "category": "a"}, {"answer": "no", "category": "b"}, {"answer": "no", "category": "b"}]
    benchmark = opened(tmp_path, *rows)
    questions = list(benchmark.questions())
    found = measure(benchmark, score(benchmark, questions, ["yes", "yes", "no"])).measures
    assert {name: one.value for name, one in found.items()} == {
        "score": pytest.approx(2 / 3),
        "score/a": 1,
        "score/b": 0.5,
    }


def test_free_text_without_a_judge_is_unscored(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, {"answer": "A long text that only a judge can compare."}, {"answer": "yes"})
    questions = list(benchmark.questions())
    scores = measure(benchmark, score(benchmark, questions, ["Some text.", "yes"]))
    assert (scores.unscored, scores.measures["score"].value) == (1, 1)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'contains'"):
        opened(tmp_path, {"answer": "x", "type": "contain"})
    with pytest.raises(DataError, match="line 2: it has no answer"):
        opened(tmp_path, {"answer": "x"}, {})

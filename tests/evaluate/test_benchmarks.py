"""What every benchmark keeps to."""

from __future__ import annotations

import pytest

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks import Scored, Setting, benchmarks
from vistune.records import ImageRecord

FROM_BOXES = ("scene_qa", "chair", "pope")


def test_an_unknown_benchmark_gets_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'scene_qa'"):
        benchmarks.get("scene-qa")


@pytest.mark.parametrize("name", FROM_BOXES)
def test_questions_from_boxes(name: str, records: list[ImageRecord]) -> None:
    benchmark = benchmarks.get(name)(Setting(annotated=records, seed=1))
    questions = list(benchmark.questions())
    assert questions == list(benchmarks.get(name)(Setting(annotated=records, seed=1)).questions())
    assert len({question.id for question in questions}) == len(questions) > 0
    assert all("{" not in question.text and question.text.strip() for question in questions)
    right, silent = [], []
    for question in questions:
        right.append(Scored(question, benchmark.score(question, ", ".join(question.references))))
        silent.append(Scored(question, benchmark.score(question, "")))
        assert right[-1].verdict.value == 1
        assert not silent[-1].verdict.value
        assert silent[-1].verdict.explanation
    for metric in benchmark.metrics.values():
        assert metric(right) != metric(silent)


@pytest.mark.parametrize("name", FROM_BOXES)
def test_without_annotated_images_the_fix_is_named(name: str) -> None:
    with pytest.raises(VistuneError, match="--data"):
        list(benchmarks.get(name)(Setting()).questions())

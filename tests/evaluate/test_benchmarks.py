"""What every benchmark keeps to."""

from __future__ import annotations

import pytest

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.records import ImageRecord

NAMES = benchmarks.names()


def test_what_there_is() -> None:
    assert {"scene_qa", "chair"} <= set(NAMES)
    with pytest.raises(VistuneError, match="did you mean 'scene_qa'"):
        benchmarks.get("scene-qa")


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, records: list[ImageRecord]) -> None:
    benchmark = benchmarks.get(name)(records, Setting(1, limit=6))
    questions = benchmark.questions
    assert questions == benchmarks.get(name)(records, Setting(1, limit=6)).questions
    assert len({question.id for question in questions}) == len(questions) > 0
    assert {question.image for question in questions} <= {record.image for record in records[:6]}
    assert all("{" not in question.text and question.text.strip() for question in questions)
    assert benchmark.max_new_tokens > 0
    for question in questions:
        right, empty = benchmark.judge(question, question.reference), benchmark.judge(question, "")
        assert (right.question_id, right.correct) == (question.id, True)
        assert not empty.correct
        assert empty.reason
    perfect = benchmark.measure([question.reference for question in questions])
    silent = benchmark.measure([""] * len(questions))
    assert perfect.keys() == silent.keys()
    assert perfect != silent


@pytest.mark.parametrize("name", NAMES)
def test_no_records_are_no_questions(name: str) -> None:
    assert not benchmarks.get(name)([], Setting()).questions

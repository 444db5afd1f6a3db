from __future__ import annotations

from pathlib import Path

import pytest

from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.chair import PROMPT, Chair
from vistune.generate.kinds import Prompts
from vistune.records import Box, ImageRecord

RECORDS = [
    ImageRecord("1", Path("1.png"), 9, 9, (), (Box("dog", 0, 0, 1, 1), Box("dog", 0, 0, 1, 1), Box("cat", 0, 0, 1, 1))),
    ImageRecord("2", Path("2.png"), 9, 9, (), (Box("hot dog", 0, 0, 1, 1),)),
]


def measure(*texts: str) -> dict[str, float | None]:
    return {name: found.value for name, found in Chair(RECORDS, Setting()).measure(texts).items()}


def test_complete_and_true() -> None:
    assert measure("Two dogs and a cat.", "A hot dog.") == {"chair": 0.0, "chair_s": 0.0, "recall": 1.0}


def test_mentions_are_counted_over_all_images() -> None:
    found = measure("A dog, a dog, a cat and a hot dog.", "A dog.")
    assert found == {"chair": pytest.approx(2 / 5), "chair_s": 1.0, "recall": pytest.approx(2 / 3)}


def test_silence_is_no_proof_of_not_hallucinating() -> None:
    assert measure("", "") == {"chair": None, "chair_s": None, "recall": 0.0}


def test_the_question_is_one_of_the_teachers() -> None:
    assert {question.text for question in Chair(RECORDS, Setting()).questions} <= set(
        Prompts().load("detail").questions
    )


def test_verdicts_name_hallucinated_and_missed_objects() -> None:
    chair = Chair(RECORDS, Setting())
    question = chair.questions[0]
    assert (question.text, question.reference) == (PROMPT, "dog, cat")
    wrong = chair.judge(question, "A dog eats a hot dog.")
    assert (wrong.correct, wrong.reason) == (False, "hallucinated: hot dog; missed: cat")
    assert chair.judge(question, "A cat and a dog").correct is True
    assert chair.judge(question, "").correct is None

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.chair import PROMPT, Chair
from vistune.evaluate.runner import score
from vistune.generate.kinds import Prompts
from vistune.records import Box, ImageRecord

RECORDS = [
    ImageRecord("1", Path("1.png"), 9, 9, (), (Box("dog", 0, 0, 1, 1), Box("dog", 0, 0, 1, 1), Box("cat", 0, 0, 1, 1))),
    ImageRecord("2", Path("2.png"), 9, 9, (), (Box("hot dog", 0, 0, 1, 1),)),
]
CHAIR = Chair(Setting(annotated=RECORDS))


def measure(*texts: str) -> dict[str, float | None]:
    scored = score(CHAIR, list(CHAIR.questions()), texts)
    return {name: metric(scored).value for name, metric in CHAIR.metrics.items()}


def test_complete_and_true() -> None:
    assert measure("Two dogs and a cat.", "A hot dog.") == {"chair": 0.0, "chair_s": 0.0, "recall": 1.0}


def test_mentions_are_counted_over_all_images() -> None:
    found = measure("A dog, a dog, a cat and a hot dog.", "A dog.")
    assert found == {"chair": pytest.approx(2 / 5), "chair_s": 1.0, "recall": pytest.approx(2 / 3)}


def test_silence_is_no_proof_of_not_hallucinating() -> None:
    assert measure("", "") == {"chair": None, "chair_s": None, "recall": 0.0}


def test_the_question_is_one_of_the_teachers() -> None:
    assert {question.text for question in CHAIR.questions()} <= set(Prompts().load("detail").questions)


def test_verdicts_name_hallucinated_and_missed_objects() -> None:
    question = next(iter(CHAIR.questions()))
    assert (question.text, question.references) == (PROMPT, ("dog", "cat"))
    wrong = CHAIR.score(question, "A dog eats a hot dog.")
    assert (wrong.value, wrong.explanation) == (0, "hallucinated: hot dog; missed: cat")
    assert CHAIR.score(question, "A cat and a dog").value == 1
    assert CHAIR.score(question, "").value is None


def test_what_captions_mention_is_in_the_image_unless_boxes_alone_count() -> None:
    records = [replace(RECORDS[0], captions=("A dog with a frankfurter and a hot dog.",)), RECORDS[1]]
    for truth, right in (("captions", 1), ("boxes", 0)):
        chair = Chair(Setting(annotated=records, options={"chair_truth": truth}))
        question = next(iter(chair.questions()))
        assert chair.score(question, "A dog, a cat and a hot dog").value == right
        assert chair.protocol == {"truth": "boxes and captions" if right else "boxes"}

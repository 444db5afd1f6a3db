"""One's own questions about one's own images, each scored by a rule."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vistune.data.questions import QuestionRow, read_questions
from vistune.errors import DataError, did_you_mean
from vistune.evaluate.benchmarks import Benchmark, Metric, Setting, benchmarks
from vistune.evaluate.benchmarks._choices import read_choice
from vistune.evaluate.benchmarks._metrics import mean_score
from vistune.evaluate.benchmarks._vqa_text import accuracy as vqa_accuracy
from vistune.evaluate.benchmarks._vqa_text import normalise
from vistune.llm import Request
from vistune.records import Question, Turn, Verdict
from vistune.resources import read_text
from vistune.scene.english import NUMBERS

_IOU = 0.5
"""Overlap of boxes from which an answer counts as right, as in RefCOCO."""
_SHORT = 6
"""Words of the longest reference that is compared as text; for a longer one agreement of words says little."""
_GRADE = re.compile(r"\bgrade\b\W*(10|\d)(?!\d|\.\d)", re.IGNORECASE)


@benchmarks.register("questions")
class OwnQuestions(Benchmark):
    """The questions of a file (`vistune.data.questions`); the rule is the row's `type`.

    `exact`: equal but for case, punctuation and articles; `contains`: a reference is part of the answer; `soft`: VQA
    accuracy, min(1, equal references / 3); `choice`: the letter or the text of the right choice; `number`: the first
    number; `box`: the first four numbers, with an overlap (IoU) of at least 0.5; `judge`: a judge compares it with the
    reference, from 0 to 10 points. Without a type it is `choice` where there are choices, `soft` with several
    references, `judge` for a reference of over six words, else `exact`.
    """

    max_new_tokens: int = 256
    max_unscored = 0.02

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._rows = list(read_questions(setting.file))
        for row in self._rows:
            if row.type and row.type not in RULES:
                raise DataError(f"unknown type '{row.type}'", where=row.where, fix=did_you_mean(row.type, RULES))
            if not row.answers:
                raise DataError("it has no answer to compare with", where=row.where, fix="add 'answer' or 'answers'")

    @cached_property
    def _folder(self) -> Path:
        return self.setting.images or self.setting.file.parent

    def questions(self) -> Iterable[Question]:
        """In the order of the file."""
        for row in self._rows:
            images = tuple(self._folder / name for name in row.images)
            details = {"rule": row.type or _usual_rule(row)}
            yield Question(row.id, row.prompt, images, row.category, row.answers, row.choices, details)

    def prepare(self, answers: Sequence[tuple[Question, str]]) -> None:
        """Have the judge grade the answers that need one. Without a judge they stay unscored."""
        if self.setting.judges:
            judged = [_judge_request(*one) for one in answers if one[0].details["rule"] == "judge" and one[1].strip()]
            self.setting.judges.ask(judged, _is_graded)

    def score(self, question: Question, answer: str) -> Verdict:
        """By the question's rule; an empty answer is wrong."""
        rule = str(question.details["rule"])
        if not answer.strip():
            return Verdict(0.0, "", "is empty")
        return self._judged(question, answer) if rule == "judge" else RULES[rule](question, answer)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The judges, if answers are scored by one."""
        judged = any((row.type or _usual_rule(row)) == "judge" for row in self._rows)
        return {"judges": sorted(self.setting.judges.names)} if judged and self.setting.judges else {}

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`score`, the mean over the scored answers."""
        return {"score": mean_score}

    def _judged(self, question: Question, answer: str) -> Verdict:
        judges = self.setting.judges
        if judges is None:
            return Verdict(None, answer, "free text is scored by a judge: add --judge MODEL")
        replies = judges.replies(_judge_request(question, answer), _is_graded)
        grades = {name: _grade(text) for name, text in replies.items() if text is not None}
        points = [grade for grade in grades.values() if grade is not None]
        if not points:
            return Verdict(None, answer, "no judge gave a grade that can be read")
        text = "; ".join(f"{name}: {reply}" for name, reply in replies.items())
        return Verdict(sum(points) / len(points) / 10, answer, text)


def _usual_rule(row: QuestionRow) -> str:
    if row.choices:
        return "choice"
    if len(row.answers) > 1:
        return "soft"
    return "judge" if len(row.answers[0].split()) > _SHORT else "exact"


def _exact(question: Question, answer: str) -> Verdict:
    read = _plain(answer)
    right = read in map(_plain, question.references)
    return Verdict(float(right), read, "equals a reference" if right else "equals no reference")


def _contains(question: Question, answer: str) -> Verdict:
    found = next((one for one in question.references if f" {_plain(one)} " in f" {_plain(answer)} "), None)
    return Verdict(float(found is not None), answer, f"contains '{found}'" if found else "contains no reference")


def _soft(question: Question, answer: str) -> Verdict:
    """VQA accuracy; with one or two references an equal one is enough."""
    references, read = question.references, normalise(answer)
    equal = sum(normalise(one) == read for one in references)
    value = vqa_accuracy(answer, references) if len(references) > 2 else float(equal > 0)
    return Verdict(value, read, f"equals {equal} of {len(references)} references")


def _choice(question: Question, answer: str) -> Verdict:
    index = read_choice(answer, question.choices)
    if index is None:
        return Verdict(0.0, answer, "names no choice")
    chosen = question.choices[index]
    return Verdict(float(chosen in question.references), chosen, f"chooses {chosen}")


def _number(question: Question, answer: str) -> Verdict:
    found, reference = _numbers(answer), _numbers(question.references[0])
    if not reference:
        return Verdict(None, "", f"the reference '{question.references[0]}' has no number")
    if not found:
        return Verdict(0.0, "", "has no number")
    right = math.isclose(found[0], reference[0], rel_tol=1e-6)
    return Verdict(float(right), f"{found[0]:g}", f"says {found[0]:g}")


def _box(question: Question, answer: str) -> Verdict:
    found, reference = _corners(answer), _corners(question.references[0])
    if len(reference) < 4:
        return Verdict(None, "", f"the reference '{question.references[0]}' is no box of x1, y1, x2, y2")
    if len(found) < 4:
        return Verdict(0.0, "", "has no box of four numbers", {"iou": 0.0})
    iou = _overlap(found, reference)
    return Verdict(float(iou >= _IOU), str(found), f"overlaps by {iou:.2f} (IoU)", {"iou": iou})


RULES: Mapping[str, Callable[[Question, str], Verdict]] = {
    "exact": _exact, "contains": _contains, "soft": _soft, "choice": _choice, "number": _number, "box": _box,
    "judge": _exact,
}  # fmt: skip


def _plain(text: str) -> str:
    """In lower case, without punctuation and articles."""
    return " ".join(word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the"))


def _numbers(text: str) -> list[float]:
    """The numbers in a text, in digits (1,000.5) or words (three)."""
    words = re.findall(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+|[a-z]+", text.lower())
    values = (NUMBERS.index(word) if word in NUMBERS else word.replace(",", "") for word in words)
    return [float(value) for value in values if not isinstance(value, str) or not value.isalpha()]


def _corners(text: str) -> list[float]:
    """The first four numbers, x1, y1, x2, y2."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?|-?\.\d+", text)[:4]]


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes of x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (areas - both) if areas > both else 0.0


def _judge_request(question: Question, answer: str) -> Request:
    """A judge sees the question, the reference and the answer, not the image."""
    prompt = read_text("vistune.evaluate.benchmarks", "judge_questions.txt").format(
        question=question.text, reference="\n".join(question.references), answer=answer
    )
    return Request("", (Turn("user", prompt),), kind="grade", max_tokens=512, temperature=0.0)


def _is_graded(text: str) -> bool:
    return _grade(text) is not None


def _grade(text: str) -> int | None:
    """The grade of a reply, from its line `Grade: N`."""
    found = _GRADE.findall(text)
    return int(found[-1]) if found else None

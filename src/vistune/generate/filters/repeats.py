"""Questions and answers that come twice: in a conversation, or in two conversations about one image."""

from __future__ import annotations

from collections.abc import Iterable

from vistune.generate.filters.sample import Sample, Text
from vistune.generate.filters.word_lists import word_list
from vistune.records import Turn

_FULL_ANSWER = 6  # of fewer words, as "Yes, it is.", the same answer is right for many questions


def repeated_turn(sample: Sample) -> bool:
    """A question is asked twice, in the same or nearly the same words, or a full answer is given twice."""
    questions = [_core(question) for question, _ in sample.exchanges]
    answers = [answer.spaced for answer in sample.answers if len(answer.words) > _FULL_ANSWER]
    return len(set(questions)) < len(questions) or len(set(answers)) < len(answers)


class AskedBefore:
    """Tells whether a sample repeats a question of another sample about the same image, in the plan's order."""

    def __init__(self) -> None:
        self._record = ""
        self._asked: set[tuple[str, ...]] = set()

    def repeats(self, record: str, turns: Iterable[Turn]) -> bool:
        """Whether a question was asked about this image before; the samples of an image come one after the other."""
        if record != self._record:
            self._record, self._asked = record, set()
        questions = {_core(Text(turn.text)) for turn in turns if turn.role == "user"}
        before = not questions.isdisjoint(self._asked)
        self._asked |= questions
        return before


def _core(question: Text) -> tuple[str, ...]:
    filler = word_list("question_filler")
    core = tuple(word for word in question.words if word not in filler)
    return core or tuple(question.words)

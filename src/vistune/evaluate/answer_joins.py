"""Joins answers to the questions that they are about: by id, or by image and text; never by their order alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from vistune.errors import DataError
from vistune.evaluate.answer_files import Answer
from vistune.evaluate.benchmarks._helpers import image_key, question_keys
from vistune.evaluate.benchmarks.pope import split_of
from vistune.formats import Row, fitting, read_objects
from vistune.reading import in_format
from vistune.records import Question

_AGREE = 0.9
"""The share of answers whose questions must be those that a file has under their ids, for its images to be used."""
_FEW = 0.5
"""A split with less than this share of the best split's answers is not what a file answers."""


class Joined(NamedTuple):
    """The answer to each question, None where it is missing, and the number of answers to no question."""

    texts: list[str | None]
    extra: int


def join(
    questions: Sequence[Question], answers: Iterable[Answer],
    question_key_of: Callable[[Question], Iterable[Hashable]], keys_of: Callable[[Answer], Iterable[Hashable]],
) -> Joined:  # fmt: skip
    """Give each answer to the first question without one that has a key of it; earlier keys go first."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        for key in question_key_of(question):
            places[key].append(place)
    texts: list[str | None] = [None] * len(questions)
    extra = 0
    for answer in answers:
        free = (place for key in keys_of(answer) for place in places.get(key, ()) if texts[place] is None)
        found = next(free, None)
        if found is None:
            extra += 1
        else:
            texts[found] = answer.text
    return Joined(texts, extra)


def join_pope(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[list[Question], Joined]:
    """Join by split, image and question; returns the questions of the splits that are answered, too.

    Answers that do not say their split go to the one that they fit best, and on to others where the question is
    answered already. A split with few answers compared with the best one is not what the file answers.
    """
    known = {key for question in questions for key in _pope_keys(question)}
    splits = list(dict.fromkeys(question.type for question in questions))
    fits = Counter(split for one in answers for split in splits if not known.isdisjoint(_keys(one, [split])))
    order = sorted(splits, key=lambda split: -fits[split])

    def keys(answer: Answer) -> Iterator[Hashable]:
        return _keys(answer, [answer.group] if answer.group in splits else order)

    texts, extra = join(questions, answers, _pope_keys, keys)
    answered = Counter(one.type for one, text in zip(questions, texts, strict=True) if text is not None)
    chosen = [split for split in splits if answered[split] > _FEW * max(answered.values())] if answered else splits
    kept = [(one, text) for one, text in zip(questions, texts, strict=True) if one.type in chosen]
    stray = sum(count for split, count in answered.items() if split not in chosen)
    return [one for one, _ in kept], Joined([text for _, text in kept], extra + stray)


def _pope_keys(question: Question) -> Iterator[tuple[str, str, str]]:
    image = image_key(question.images[0].name)
    return ((question.type, image, text) for text in question_keys(question.text))


def _keys(answer: Answer, splits: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    texts = question_keys(answer.question)
    return ((split, image_key(answer.image), text) for split in splits for text in texts)


class Place(NamedTuple):
    """What a question file has under an id: the image, the forms of the question, and its split."""

    image: str
    forms: frozenset[str]
    group: str


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of POPE's questions, with labels or, as LLaVA's, without; its rows by id."""

    path: Path
    labelled: bool
    rows: dict[str, Place]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> list[Self]:
        """Those among files and in folders. Raises DataError for a file of other rows."""
        found = []
        for path in paths:
            for file in sorted(path.glob("*.json*")) if path.is_dir() else [path]:
                rows = list(read_objects(file, DataError)) if fitting(str(file)) else []
                if rows and {"question_id", "image", "text"} <= rows[0].values.keys():
                    found.append(cls._of_rows(file, rows))
                elif not path.is_dir():
                    raise DataError(
                        "not a file of POPE's questions", where=str(file), fix="name the files coco_pope_*.json"
                    )
        return found

    @classmethod
    def _of_rows(cls, path: Path, rows: Sequence[Row]) -> Self:
        labelled = "label" in rows[0].values
        split = split_of(path) if labelled else ""
        named = {}
        for values, where, _ in rows:
            with in_format(where, DataError):
                forms = question_keys(str(values["text"]))
                named[str(values["question_id"])] = Place(
                    str(values["image"]), forms, str(values.get("category") or split)
                )
        return cls(path, labelled, named)

    def agrees(self, answer: Answer) -> bool:
        """Whether the question under the answer's id is the answer's."""
        return answer.id in self.rows and not self.rows[answer.id].forms.isdisjoint(question_keys(answer.question))

    def located(self, answer: Answer) -> Answer:
        """The answer with the image and split under its id, unless it has them."""
        image, _, group = self.rows[answer.id]
        return replace(answer, image=answer.image or image, group=answer.group or group)

    def numbered(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Answers without ids with those of the file, if there are as many of each."""
        if any(one.id for one in answers) or len(answers) != len(self.rows):
            return answers
        return [replace(one, id=name) for one, name in zip(answers, self.rows, strict=True)]


def locate(answers: Sequence[Answer], files: Sequence[QuestionFile], where: Path) -> Sequence[Answer]:
    """The answers with their images, and with their splits as far as they are known.

    Both are those under an answer's id in the file that has the questions of nearly all answers under their ids.
    Answers of POPE's own layout have no ids: they need a file with as many questions, in whose order all agree.
    Raises DataError if there is no such file and an answer has no image.
    """
    fits = []
    for file in files:
        named = file.numbered(answers)
        share = sum(map(file.agrees, named)) / len(named)
        if share >= (_AGREE if named is answers else 1):
            fits.append((share, file, named))
    if fits:
        _, file, named = max(fits, key=lambda fit: fit[0])
        return [file.located(one) if file.agrees(one) else one for one in named]
    if not all(one.image for one in answers):
        fix = "add the question file that was used to --truth; its rows have question_id, image and text"
        raise DataError(
            "its answers have no images, and no question file has their questions", where=str(where), fix=fix
        )
    return answers

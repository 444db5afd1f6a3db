"""VQA: short answers compared with those of ten annotators (VQAv2, OK-VQA, TextVQA, VizWiz)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, benchmarks
from vistune.evaluate.benchmarks._helpers import first_existing, image_folder, read_json
from vistune.evaluate.benchmarks._vqa_text import accuracy, normalise, official_accuracy
from vistune.evaluate.statistics import Measure, share
from vistune.records import Question, Verdict

_SHORT = "Answer the question using a single word or phrase."
_VIZWIZ = "When the provided information is insufficient, respond with 'Unanswerable'."
"""LLaVA-1.5's instructions."""
_LAYOUTS = "a folder with the files of questions and annotations (VQAv2, OK-VQA), or a file of both (TextVQA, VizWiz)"


@benchmarks.register("vqa")
class Vqa(Benchmark):
    """The published questions; two rules with names give two accuracies, see `_vqa_text`.

    `vqa-normalised` normalises always, `vqa` (official) only where the annotators differ.
    """

    max_new_tokens: int = 16

    def questions(self) -> Iterable[Question]:
        """In the order of the file; the type is `answer_type`: yes/no, number, other."""
        return self._all

    @cached_property
    def _all(self) -> list[Question]:
        return list(vqa_questions(self.setting.file, image_folder(self.setting)))

    def score(self, question: Question, answer: str) -> Verdict:
        """From 0 to 1, by `vqa-normalised`."""
        value = accuracy(answer, question.references)
        parts = {"vqa": official_accuracy(answer, question.references)}
        equal = sum(normalise(one) == normalise(answer) for one in question.references)
        how = f"equals {equal} of {len(question.references)} references" if answer.strip() else "is empty"
        return Verdict(value, normalise(answer), how, parts)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`vqa-normalised` and `vqa`."""
        return {"vqa-normalised": _normalised, "vqa": _official}


def _normalised(scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.value or 0.0 for one in scored], [one.question.cluster for one in scored])


def _official(scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.parts["vqa"] for one in scored], [one.question.cluster for one in scored])


def vqa_questions(path: Path, images: Path, *more: Path) -> Iterator[Question]:
    """The questions of a file, of a folder's, or of several files in one of the published layouts.

    VQAv2 and OK-VQA have `{"questions": […]}` and `{"annotations": […]}`, TextVQA `{"data": […]}`, VizWiz a list.
    Questions without annotations are left out; VizWiz has no ids but the names of images. Raises DataError.
    """
    files = [file for one in (path, *more) for file in (sorted(one.glob("*.json")) if one.is_dir() else [one])]
    contents = {file: read_json(file) for file in files}
    asked = [one for one in contents.items() if _part(one[1], "questions")]
    answered = [one for one in contents.items() if _part(one[1], "annotations")]
    whole = [one for one in contents.items() if isinstance(one[1], list) or _part(one[1], "data")]
    if len(whole) == 1 and not asked:
        (file, content), rows = whole[0], {}
    elif len(asked) == len(answered) == 1:
        file, content = asked[0]
        rows = {row["question_id"]: row for row in answered[0][1]["annotations"] if "question_id" in row}
    else:
        what = f"{len(asked)} files of questions, {len(answered)} of annotations, {len(whole)} with both"
        raise DataError(what, where=str(path), fix=_LAYOUTS)
    listed = content if isinstance(content, list) else content.get("questions") or content["data"]
    for number, row in enumerate(listed):
        where = f"{file}: question {number}"
        if not isinstance(row, dict) or not row.get("question"):
            raise DataError("this has no question", where=where, fix=_LAYOUTS)
        truth = row | rows.get(row.get("question_id"), {}) if rows else row
        if "answers" in truth:
            yield _question(truth, images, content, where)


def _part(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def _question(row: Mapping[str, Any], images: Path, content: Any, where: str) -> Question:
    answers = row["answers"]
    texts = tuple(str(one.get("answer", "")) if isinstance(one, dict) else str(one) for one in answers)
    if not texts:
        raise DataError("it has no answers", where=where)
    hint = [_VIZWIZ] if "answerable" in row else []
    name = row.get("question_id", row.get("image"))
    split = content.get("data_subtype", "") if isinstance(content, dict) else ""
    image = first_existing([images / one for one in _image_names(row, split)])
    prompt = "\n".join([str(row["question"]), *hint, _SHORT])
    details = {"image": str(row.get("image_id", row.get("image", ""))), "question": str(row["question"])}
    return Question(str(name), prompt, (image,), str(row.get("answer_type") or ""), texts, details=details)


def _image_names(row: Mapping[str, Any], split: str) -> list[str]:
    """The image's name, or the names that an image of that id may have: COCO's of 2014 and of 2017, TextVQA's."""
    if "image" in row:
        return [str(row["image"])]
    key = row.get("image_id", "")
    if isinstance(key, int):
        return [f"COCO_{split}_{key:012}.jpg", f"{key:012}.jpg"]
    return [f"{key}.jpg", f"{key}.png"]

"""VQA: short answers compared with those of ten annotators (VQAv2, OK-VQA, TextVQA, VizWiz)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, Setting, benchmarks
from vistune.evaluate.benchmarks._helpers import first_existing, image_folder, read_json
from vistune.evaluate.benchmarks._metrics import of_type, only
from vistune.evaluate.benchmarks._vqa_text import accuracy, normalise, official_accuracy
from vistune.evaluate.statistics import Measure, share
from vistune.reading import in_format
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

    def __init__(self, setting: Setting, questions: Sequence[Question] = ()) -> None:
        super().__init__(setting)
        self._given = list(questions)

    def questions(self) -> Iterable[Question]:
        """In the order of the file; the type is `answer_type`: yes/no, number, other."""
        return self._all

    @cached_property
    def _all(self) -> list[Question]:
        found = self._given or list(vqa_questions([self.setting.file], image_folder(self.setting)))
        if not self._given and not all(question.details["question"] for question in found):
            raise DataError("annotations without questions", where=str(self.setting.path), fix=_LAYOUTS)
        return found

    def score(self, question: Question, answer: str) -> Verdict:
        """From 0 to 1, by `vqa-normalised`."""
        value = accuracy(answer, question.references)
        parts = {"vqa": official_accuracy(answer, question.references)}
        equal = sum(normalise(one) == normalise(answer) for one in question.references)
        how = f"equals {equal} of {len(question.references)} references" if answer.strip() else "is empty"
        return Verdict(value, normalise(answer), how, parts)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`vqa-normalised` and `vqa`, both by type."""
        types = dict.fromkeys(question.type for question in self._all)
        by_type = {f"vqa/{kind}": only(_official, of_type(kind)) for kind in types if len(types) > 1}
        return {"vqa-normalised": _normalised, "vqa": _official, **by_type}


def _normalised(scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.value or 0.0 for one in scored], [one.question.cluster for one in scored])


def _official(scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.parts["vqa"] for one in scored], [one.question.cluster for one in scored])


def vqa_questions(paths: Sequence[Path], images: Path | None) -> Iterator[Question]:
    """The questions of files, or of folders of files, in one of the published layouts.

    VQAv2 and OK-VQA have `{"questions": […]}` and `{"annotations": […]}`, TextVQA `{"data": […]}`, VizWiz a list.
    Questions without annotations are left out; VizWiz has no ids but the names of images. The annotations alone give
    questions without text, enough to score answers by id. Without `images` no image is looked for. Raises DataError.
    """
    files = [file for one in paths for file in (sorted(one.glob("*.json")) if one.is_dir() else [one])]
    contents = [(file, read_json(file)) for file in files]
    listed, annotated, whole = [], [], []
    for one in contents:
        if _has(one[1], "questions"):
            listed.append(one)
        elif _has(one[1], "annotations"):
            annotated.append(one)
        elif isinstance(one[1], list) or _has(one[1], "data"):
            whole.append(one)
    if (len(listed), len(annotated), len(whole)) not in ((1, 1, 0), (0, 1, 0), (0, 0, 1)):
        what = f"{len(listed)} files of questions, {len(annotated)} of annotations, {len(whole)} of both"
        raise DataError(what, where=", ".join(map(str, paths)), fix=_LAYOUTS)
    file, content = (listed or annotated or whole)[0]
    with in_format(str(annotated[0][0]) if listed else "", DataError, _LAYOUTS):
        truth = {row.get("question_id"): row for row in annotated[0][1]["annotations"]} if listed else {}
    split = content.get("data_subtype", "") if isinstance(content, dict) else ""
    for number, row in enumerate(_rows(content)):
        if not isinstance(row, dict):
            raise DataError("it is no object", where=f"{file}: question {number}", fix=_LAYOUTS)
        with in_format(f"{file}: question {number}", DataError):
            known = row | truth.get(row.get("question_id"), {})
            found = _question(known, images, split, f"{file}: question {number}") if "answers" in known else None
        if found:
            yield found


def _rows(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return list(content.get("questions") or content.get("annotations") or content["data"])


def _has(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def _question(row: Mapping[str, Any], images: Path | None, split: str, where: str) -> Question:
    texts = tuple(str(one.get("answer", "")) if isinstance(one, dict) else str(one) for one in row["answers"])
    if not texts:
        raise DataError("it has no answers", where=where)
    text = str(row.get("question", ""))
    hint = [_VIZWIZ] if "answerable" in row else []
    names = _image_names(row, split)
    image = first_existing([images / one for one in names]) if images else Path(names[0])
    details = {"image": str(row.get("image_id", row.get("image", ""))), "question": text}
    name, kind = str(row.get("question_id", row.get("image"))), str(row.get("answer_type") or "")
    return Question(name, "\n".join([text, *hint, _SHORT]), (image,), kind, texts, details=details)


def _image_names(row: Mapping[str, Any], split: str) -> list[str]:
    """The image's name, or the names that an image of that id may have: COCO's of 2014 and of 2017, TextVQA's."""
    if "image" in row:
        return [str(row["image"])]
    key = row.get("image_id", "")
    if isinstance(key, int):
        return [f"COCO_{split}_{key:012}.jpg", f"{key:012}.jpg"]
    return [f"{key}.jpg", f"{key}.png"]

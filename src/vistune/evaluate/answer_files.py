"""Files of answers that other tools wrote: LLaVA's, POPE's, VQA's, MME's, VLMEvalKit's, read by their keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks._helpers import read_json
from vistune.formats import read_as, read_objects
from vistune.reading import read_text

_PROMPTS = ("prompt", "question", "query", "text")
_TEXTS = ("prediction", "text", "response", "output", "pred", "pred_answer", "model_answer", "answer", "caption")
_LABELS = ("label", "gt", "gt_answer", "ground_truth", "target", "answer")
_IDS = ("question_id", "questionId", "qid", "index", "id")
_IMAGES = ("image", "image_path", "image_id", "image_file", "file_name", "img", "image_source", "images")
_OBJECT = re.compile(r"is there (a|an|any|the)?\b.* in the (image|picture|photo)\b", re.IGNORECASE)
_ROWS = 20
"""Rows from which a file's kind is recognised."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what the file says of its question; "" is unknown.

    `group` is POPE's split or MME's category, `round` the rotation of the choices, `label` the right answer.
    """

    text: str
    id: str = ""
    image: str = ""
    question: str = ""
    group: str = ""
    round: int = 0
    label: str = ""


def read_answers(path: Path) -> list[Answer]:
    """The answers of a JSON list, JSON lines, CSV or TSV; or of MME's texts: image, question, truth, answer.

    Raises DataError.
    """
    if path.suffix.lower() == ".txt":
        return [_from_columns(columns, path.stem) for columns in mme_rows(path)]
    answers = list(read_as(path, DataError, lambda row: _from_row(row.values, row.where)))
    if not answers:
        raise DataError(
            "there are no answers in it", where=str(path), fix="name the file that a model's answers are in"
        )
    return answers


def mme_rows(path: Path) -> Iterator[list[str]]:
    """The lines of a text of MME's evaluation tool: image, question, truth and, where there is one, the answer."""
    for number, line in enumerate(read_text(path, DataError).splitlines(), 1):
        columns = [column.strip() for column in line.split("\t", 3)]
        if len(columns) >= 3:
            yield columns
        elif line.strip():
            fix = "a line is image<tab>question<tab>truth<tab>answer"
            raise DataError("not a line of MME's evaluation tool", where=f"{path}: line {number}", fix=fix)


def _from_columns(columns: Sequence[str], category: str) -> Answer:
    image, question, label, *answer = columns
    return Answer("".join(answer), image=image, question=question, group=category, label=label.lower())


def _from_row(values: Mapping[str, Any], where: str) -> Answer:
    prompts = [name for name in _PROMPTS if name in values]
    texts = [name for name in _TEXTS if name in values]
    if prompts == ["text"] and len(texts) > 1:  # a question file to which the answers were added
        texts.remove("text")
    elif prompts == ["text"]:
        prompts = []
    if not texts:
        fix = f"its keys are {', '.join(values)}; an answer stands under text, answer, prediction or response"
        raise DataError("this has no answer", where=where, fix=fix)
    labels = [name for name in _LABELS if name in values and name != texts[0]]
    ids = [str(values[name]) for name in _IDS if name in values]
    images = [_text(values[name]) for name in _IMAGES if values.get(name)]
    category = str(values.get("category") or values.get("split") or "")
    return Answer(
        _text(values[texts[0]]), ids[0] if ids else "", images[0] if images else "",
        str(values[prompts[0]]) if prompts else "", category, int(values.get("round_id") or 0),
        str(values[labels[0]]).strip().lower() if labels else "",
    )  # fmt: skip


def _text(value: Any) -> str:
    """A text; of several the first."""
    if isinstance(value, list):
        return _text(value[0]) if value else ""
    return "" if value is None or value != value else str(value)


def detect(path: Path) -> str:
    """The kind of answers in a file, by its content. Raises VistuneError where that is not plain."""
    if path.is_dir() or path.suffix.lower() == ".txt":
        return "mme"
    rows = [row for row in islice(_rows(path), _ROWS) if isinstance(row, dict)]
    if not rows:
        raise DataError("there are no rows in it", where=str(path), fix="name the file that a model's answers are in")
    answers = [_from_row(row, str(path)) for row in rows if not _is_review(row) and not _is_scienceqa(row)]
    kinds: Mapping[str, Callable[[], bool]] = {
        "scienceqa": lambda: all(map(_is_scienceqa, rows)),
        "reviews": lambda: all(map(_is_review, rows)),
        "mmbench": lambda: all("round_id" in row or {"index", "A"} <= row.keys() for row in rows),
        "pope": lambda: all(_OBJECT.search(one.question) for one in answers),
        "mme": lambda: all(re.match(r"\w+/.*\w+\.\w+$", one.id) for one in answers),
        "vqa": lambda: all("answer" in row and row.keys() & {"question_id", "image"} for row in rows),
    }
    for kind, fits in kinds.items():
        if fits():
            return kind
    raise VistuneError("it is not plain what these answers are for", where=str(path), fix="add --as KIND")


def _rows(path: Path) -> Iterator[Any]:
    """The rows; a file that is one object, as ScienceQA's results, is one."""
    if path.suffix.lower() == ".json":
        try:
            content = read_json(path)
        except DataError:  # perhaps JSON lines
            content = None
        if content is not None:
            yield from content if isinstance(content, list) else [content]
            return
    yield from (row.values for row in read_objects(path, DataError))


def _is_review(row: Mapping[str, Any]) -> bool:
    return "tuple" in row or {"answer1_id", "answer2_id"} <= row.keys()


def _is_scienceqa(row: Mapping[str, Any]) -> bool:
    return {"results", "outputs"} <= row.keys() or "Options: (A)" in str(row.get("prompt", ""))

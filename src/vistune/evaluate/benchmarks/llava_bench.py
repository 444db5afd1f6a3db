"""LLaVA-Bench: open questions about images, the answers judged against those of a model that read the image's text.

The published files of both versions: COCO (30 images x 3 questions; captions and boxes are the judge's context) and
In-the-Wild (24 images, 60 questions; a description is). Liu et al. 2023, sections 5.1 and 5.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Metric, Setting, benchmarks
from vistune.evaluate.benchmarks._helpers import first_existing, image_key
from vistune.evaluate.benchmarks._reviews import PairJudge
from vistune.formats import Row, read_as, read_objects
from vistune.reading import in_format
from vistune.records import Question, Verdict
from vistune.scene.context import format_context
from vistune.sources import open_source


@dataclass(frozen=True, slots=True)
class _Role:
    """What a file of the benchmark is for: its published names, the keys that its rows have, and those they lack."""

    title: str
    names: tuple[str, ...]
    keys: frozenset[str]
    without: frozenset[str] = frozenset()

    def fits(self, path: Path) -> bool:
        """Whether a file's first row has these keys."""
        try:
            keys = next(read_objects(path, DataError)).values.keys()
        except (DataError, StopIteration):
            return False
        return keys >= self.keys and not self.without & keys


_QUESTIONS = _Role(
    "questions", ("questions.jsonl", "qa90_questions.jsonl"), frozenset({"question_id", "image", "text"})
)
_REFERENCES = _Role(
    "reference answers", ("answers_gpt4.jsonl", "qa90_gpt4_answer.jsonl"), frozenset({"question_id", "text"}),
    frozenset({"image", "tuple", "score"}),
)  # fmt: skip
_BOTH = _Role(
    "questions with answers", ("coco2014_val_gpt4_qa_30x3.jsonl",), frozenset({"image", "instruction", "output"})
)
_CONTEXTS = _Role(
    "captions of the images", ("context.jsonl", "caps_boxes_coco2014_val_80.jsonl"), frozenset({"image"}),
    frozenset({"question_id", "instruction"}),
)  # fmt: skip


@benchmarks.register("llava_bench")
class LlavaBench(Benchmark):
    """The questions of a folder with the published files, of either version, and its images.

    The files are found by their usual names, else by the keys of their rows: questions, reference answers and contexts
    of the images. The older COCO file with `instruction` and `output` is questions and references in one. Images are
    below `images`, in the folder itself, or in --images.
    """

    max_new_tokens: int = 1024
    max_unscored = 0.02

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        path = setting.file
        self._folder = path if path.is_dir() else path.parent
        self._records = {image_key(one.image.name): one for one in open_source(None, self._file(_CONTEXTS))}
        with_boxes = any(record.boxes for record in self._records.values())
        self._judge = PairJudge(setting, prefix="" if with_boxes else "llava_bench_")

    @cached_property
    def _questions(self) -> list[Question]:
        found = list(self._read())
        images = dict.fromkeys(image for question in found for image in question.images)
        if missing := [image for image in images if not image.is_file()]:
            what = f"{len(missing)} of {len(images)} images are missing, such as {missing[0]}"
            raise DataError(what, where=str(self._folder), fix="put them there, or name their folder with --images")
        return found

    def questions(self) -> Iterable[Question]:
        """In the order of the file; `references` is the text-only model's answer, `type` conv, detail or complex."""
        return self._questions

    def prepare(self, answers: Sequence[tuple[Question, str]]) -> None:
        """Have the answers judged."""
        self._judge.prepare(answers)

    def score(self, question: Question, answer: str) -> Verdict:
        """See `PairJudge.verdict`."""
        return self._judge.verdict(question, answer)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """See `PairJudge.metrics`."""
        return self._judge.metrics

    @property
    def protocol(self) -> Mapping[str, Any]:
        """See `PairJudge.protocol`."""
        return self._judge.protocol

    def _read(self) -> Iterator[Question]:
        both = None if self._find(_QUESTIONS) else self._find(_BOTH)
        for number, (row, reference) in enumerate(_joined_in_one(both) if both else self._joined()):
            values = row.values
            with in_format(row.where, DataError):
                name, question = str(values["image"]), str(values["instruction" if both else "text"])
            record = self._records.get(image_key(name))
            if record is None:
                raise DataError(f"the image {name} has no captions in {self._file(_CONTEXTS)}", where=row.where)
            kind = str(values.get("type" if both else "category") or "")
            details = {"context": format_context(record)}
            yield Question(
                str(values.get("question_id", number)), question, (self._image(name),), kind, (reference,), (), details
            )

    def _joined(self) -> Iterator[tuple[Row, str]]:
        """Questions with their reference answers, by the question's id."""
        path = self._file(_REFERENCES)
        references = dict(
            read_as(path, DataError, lambda row: (str(row.values["question_id"]), str(row.values["text"])))
        )
        for row in read_objects(self._file(_QUESTIONS), DataError):
            with in_format(row.where, DataError):
                name = str(row.values["question_id"])
            if name not in references:
                raise DataError(f"the question {name} has no reference answer in {path}", where=row.where)
            yield row, references[name]

    def _image(self, name: str) -> Path:
        folders = [self.setting.images] if self.setting.images else [self._folder / "images", self._folder]
        names = name, f"COCO_val2014_{name}", name.removeprefix("COCO_val2014_")
        return first_existing(folder / one for folder in folders for one in names)

    def _file(self, role: _Role) -> Path:
        """The file of a role. Raises DataError if there is none."""
        found = self._find(role)
        if found is None:
            keys = f"a file whose rows have {', '.join(sorted(role.keys))}"
            what = f"the {role.title} are missing: {' or '.join(role.names)}, or {keys}"
            raise DataError(what, where=str(self._folder), fix="put the published files into one folder")
        return found

    def _find(self, role: _Role) -> Path | None:
        """The file of a role by its usual name, else by its keys. Raises DataError if several fit."""
        if self.setting.file.is_file() and role.fits(self.setting.file):
            return self.setting.file
        files = sorted(path for path in self._folder.iterdir() if path.suffix in (".jsonl", ".json"))
        named = [path for path in files if path.name in role.names]
        fitting = named or [path for path in files if role.fits(path)]
        if len(fitting) > 1:
            names = ", ".join(path.name for path in fitting)
            raise DataError(f"several files have {role.title}: {names}", where=str(self._folder), fix="leave one there")
        return fitting[0] if fitting else None


def _joined_in_one(path: Path) -> Iterator[tuple[Row, str]]:
    return read_as(path, DataError, lambda row: (row, str(row.values["output"])))

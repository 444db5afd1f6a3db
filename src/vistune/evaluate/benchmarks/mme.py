"""MME: two yes/no questions about each image, one of each answer, in 14 categories (Fu et al. 2023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, benchmarks
from vistune.evaluate.benchmarks._helpers import first_existing
from vistune.evaluate.benchmarks._metrics import only, sum_of_ratios
from vistune.evaluate.statistics import Measure
from vistune.formats import IMAGE_ENDINGS
from vistune.reading import read_text
from vistune.records import Question, Verdict

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_QUESTIONS = "questions_answers_YN"
_LAYOUT = f"a folder for each category with images and, beside them or in {_QUESTIONS}, texts of the same names"


@benchmarks.register("mme")
class Mme(Benchmark):
    """The questions of a folder of MME's layout. A category's score is its accuracy plus the share of images with
    both questions right (acc + acc+), each in per cent: up to 200.
    """

    max_new_tokens: int = 16

    def questions(self) -> Iterable[Question]:
        """By category; the type is the category."""
        return mme_questions(self.setting.file)

    def score(self, question: Question, answer: str) -> Verdict:
        """Right if the answer read is the truth; neither yes nor no is unscored and not right."""
        read = read_start(answer)
        if not read:
            return Verdict(None, "", "starts with neither yes nor no")
        return Verdict(float(read == question.references[0]), read, f"starts with {read}")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`score`, the sum over categories, and the sums over those of `perception` and `cognition`."""
        return {
            "score": _score,
            "perception": only(_score, lambda one: one.question.type in PERCEPTION),
            "cognition": only(_score, lambda one: one.question.type in COGNITION),
        }


def read_start(answer: str) -> str:
    """Yes or no by MME's own rule (eval_tool/calculation.py), that in the first four characters, or ""."""
    start = answer.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else ""


def _score(scored: Sequence[Scored]) -> Measure:
    """The sum over categories of acc and acc+, as shares; an image with one question has none of acc+."""
    by_image: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in scored:
        by_image[one.question.type][one.question.cluster].append(one.verdict.value == 1)
    return sum_of_ratios(
        part
        for images in by_image.values()
        for part in (
            [(float(sum(right)), float(len(right)), image) for image, right in images.items()],
            [(float(len(right) > 1 and all(right)), 1.0, image) for image, right in images.items()],
        )
    )


def mme_questions(path: Path) -> Iterator[Question]:
    """The questions below a folder of MME's layout; a line of a text is `question<tab>answer`. Raises DataError."""
    found = False
    for file in sorted(path.rglob("*.txt")) if path.is_dir() else ():
        folder = file.parent.parent if file.parent.name == _QUESTIONS else file.parent
        image = _image(folder / "images", file.stem) if file.parent != folder else _image(folder, file.stem)
        if not image:
            continue  # such as the texts of the evaluation tool
        found = True
        for number, (question, answer) in enumerate(_lines(file)):
            name = f"{folder.name}/{file.stem}/{number}"
            yield Question(name, question, (image,), folder.name, (answer,))
    if not found:
        raise DataError("there are no questions of MME here", where=str(path), fix=_LAYOUT)


def _image(folder: Path, stem: str) -> Path | None:
    image = first_existing([folder / f"{stem}{ending}" for ending in IMAGE_ENDINGS])
    return image if image.exists() else None


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_text(file, DataError).splitlines(), 1):
        if not line.strip():
            continue
        question, _, answer = line.strip().rpartition("\t")
        if answer.strip().lower() not in ("yes", "no") or not question:
            raise DataError("not a question, a tab and Yes or No", where=f"{file}: line {number}")
        yield question.strip(), answer.strip().lower()

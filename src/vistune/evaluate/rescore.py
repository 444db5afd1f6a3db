"""Scores of answers that exist as files, without any model: `vistune rescore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vistune.errors import DataError, VistuneError
from vistune.evaluate.answer_files import Answer, detect, mme_rows, read_answers
from vistune.evaluate.answer_joins import Joined, QuestionFile, join, join_pope, locate
from vistune.evaluate.benchmarks import Benchmark, Setting
from vistune.evaluate.benchmarks._helpers import image_key, question_keys
from vistune.evaluate.runner import measure, score
from vistune.evaluate.tables import Cell, ScoreTable
from vistune.records import Question

_MAX_UNPARSED = 0.02


@dataclass(frozen=True, slots=True)
class Truth:
    """What answers are compared with, as far as their files do not say it themselves."""

    files: Sequence[Path] = ()
    """Published questions, labels or annotations: files or folders."""
    problems: Path | None = None
    """ScienceQA's problems.json or its folder."""
    splits: Path | None = None
    """ScienceQA's pid_splits.json, if it is not beside the problems."""
    second: Path | None = None
    """ScienceQA: a second model's answers, for ensembles."""
    third: Path | None = None
    """ScienceQA: the second model's answers when it knows both."""
    protocol: str = "both-orders"


def rescore(files: Sequence[Path], kind: str | None, truth: Truth) -> list[ScoreTable]:
    """The tables of the files, which are all of one `kind` of `KINDS`; by default that of the first, by its content.

    An answer counts for the question with the same image and text, or the same id, never by its place in the file.
    Raises VistuneError.
    """
    for file in (*files, *truth.files):
        if not file.exists():
            raise DataError("there is no such file or folder", where=str(file), fix="check its path")
    kind = kind or detect(files[0])
    given = {"--problems": truth.problems, "--splits": truth.splits, "--second": truth.second, "--third": truth.third}
    if kind != "scienceqa" and (unused := next((name for name, file in given.items() if file), None)):
        raise VistuneError("it is for answers to ScienceQA", where=unused, fix="leave it out, or add --as scienceqa")
    return KINDS[kind](files, truth)


def check_unparsed(tables: Sequence[ScoreTable]) -> None:
    """Raise VistuneError for a review file of which more than 2 % have no scores that can be read."""
    for table in tables:
        unparsed, reviews = table.counts.get("unparsed as stored", 0), table.counts.get("reviews", 0)
        if unparsed > _MAX_UNPARSED * reviews:
            what = f"{unparsed:,} of {reviews:,} reviews have no scores that can be read, more than {_MAX_UNPARSED:.0%}"
            raise VistuneError(what, where=table.title, fix="accept the scores without them with --allow-unparsed")


def _reviews(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.reviews import review_tables

    return review_tables(files, protocol=truth.protocol)


def _scienceqa(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.scienceqa_files import scienceqa_tables

    if truth.problems is None:
        raise VistuneError("ScienceQA's answers need its problems", fix="add --problems problems.json")
    return scienceqa_tables(
        files, problems=truth.problems, splits=truth.splits, second=truth.second, third=truth.third
    )  # fmt: skip


def _pope(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.benchmarks.pope import Pope, published_questions

    known = QuestionFile.of(truth.files)
    questions = [one for file in known if file.labelled for one in published_questions(file.path, Path())]
    setting = Setting(options={"protocol": truth.protocol})
    tables = []
    for file in files:
        answers = read_answers(file)
        if questions:
            asked, joined = join_pope(questions, locate(answers, known, file))
        else:
            asked, joined = _own(answers, file, "POPE's question files, or their folder")
        tables.append(_table(str(file), Pope(setting, asked), asked, joined))
    return tables


def _mme(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.benchmarks.mme import Mme

    questions = [one for path in truth.files for one in _mme_truth(path)]
    tables = []
    for title, answers in _mme_answers(files):
        if questions:
            asked, joined = questions, join(questions, answers, _mme_question, _mme_keys)
        else:
            asked, joined = _own(answers, title, "MME's folder, or that of its texts with the truth")
        tables.append(_table(title, Mme(Setting()), asked, joined))
    return tables


def _mme_answers(files: Sequence[Path]) -> list[tuple[str, list[Answer]]]:
    """One model's answers: those of a file, or of all texts of a folder, one for each category."""
    texts = [file for path in files for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
    if not texts:
        raise DataError("there are no texts of answers in it", where=str(files[0]), fix="name a file, or MME's folder")
    grouped = groupby(texts, key=lambda file: file.parent if file.suffix.lower() == ".txt" else file)
    return [(str(title), [one for file in group for one in read_answers(file)]) for title, group in grouped]


def _mme_truth(path: Path) -> list[Question]:
    """Of MME's folder, or of texts `image<tab>question<tab>truth` of a folder."""
    from vistune.evaluate.benchmarks.mme import mme_questions

    texts = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not texts:
        return list(mme_questions(path))
    rows = [(file.stem, row) for file in texts for row in mme_rows(file)]
    return [
        Question(f"{kind}/{number}", row[1], (Path(row[0]),), kind, (row[2].lower(),))
        for number, (kind, row) in enumerate(rows)
    ]


def _mme_question(question: Question) -> list[tuple[str, ...]]:
    image = image_key(question.images[0].name)
    return [(question.type, image, text) for text in question_keys(question.text)]


def _mme_keys(answer: Answer) -> list[tuple[str, ...]]:
    """LLaVA's ids are `category/image`."""
    category, image = answer.group or answer.id.partition("/")[0], answer.image or answer.id
    return [(category, image_key(image), key) for key in question_keys(answer.question)]


def _vqa(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.benchmarks.vqa import Vqa, vqa_questions

    if not truth.files:
        raise VistuneError("VQA's answers need the annotations", fix="add --truth annotations.json")
    questions = list(vqa_questions(truth.files, None))
    if not questions:
        where, fix = ", ".join(map(str, truth.files)), "add --truth with the annotations of the split"
        raise DataError("there are no questions with answers", where=where, fix=fix)
    tables = []
    for file in files:
        joined = join(questions, read_answers(file), _vqa_question, _vqa_keys)
        tables.append(_table(str(file), Vqa(Setting(), questions), questions, joined))
    return tables


def _vqa_question(question: Question) -> list[tuple[str, ...]]:
    texts = question_keys(question.details["question"])
    return [*((question.details["image"], text) for text in texts), (question.id,)]


def _vqa_keys(answer: Answer) -> list[tuple[str, ...]]:
    """LLaVA's ids are those of images in TextVQA, of questions in VQAv2, and the names of images in VizWiz."""
    image = answer.image or answer.id
    return [*((image, key) for key in question_keys(answer.question)), (answer.id or answer.image,)]


def _mmbench(files: Sequence[Path], truth: Truth) -> list[ScoreTable]:
    from vistune.evaluate.benchmarks.tsv import Table, table_questions

    tables = []
    for file in files:
        answers = read_answers(file)
        setting = Setting((truth.files or [file])[0], options={"circular": any(one.round for one in answers)})
        questions = table_questions(setting, unpack=False)
        if not any(question.references for question in questions):
            raise DataError("it has no right answers", where=str(setting.path), fix="add --truth FILE.tsv")
        joined = join(questions, answers, lambda one: [one.id], _mmbench_keys)
        tables.append(_table(str(file), Table(setting, questions), questions, joined))
    return tables


def _mmbench_keys(answer: Answer) -> list[str]:
    index = answer.id.removesuffix(".0")
    return [f"{index}/{answer.round}" if answer.round else index]


KINDS: Mapping[str, Callable[[Sequence[Path], Truth], list[ScoreTable]]] = {
    "scienceqa": _scienceqa, "reviews": _reviews, "pope": _pope, "mme": _mme, "mmbench": _mmbench, "vqa": _vqa,
}  # fmt: skip


def _own(answers: Sequence[Answer], where: Path | str, truth: str) -> tuple[list[Question], Joined]:
    """The questions of a file that says which answers are right, each with its answer. Raises DataError for another.

    In VLMEvalKit's layout a question may be in several splits: `random,popular`.
    """
    if not all(one.label in ("yes", "no") for one in answers):
        raise DataError("it does not say which answers are right", where=str(where), fix=f"add --truth: {truth}")
    placed = [(n, one, group) for n, one in enumerate(answers) for group in one.group.split(",")]
    questions = [
        Question(f"{n}/{group}", one.question, (Path(one.image or one.id or str(n)),), group, (one.label,))
        for n, one, group in placed
    ]
    return questions, Joined([one.text for _, one, _ in placed], 0)


def _table(title: str, benchmark: Benchmark, questions: Sequence[Question], joined: Joined) -> ScoreTable:
    """The scores of the questions that have an answer, and how many have none."""
    answered = [(one, text) for one, text in zip(questions, joined.texts, strict=True) if text is not None]
    if not answered:
        what = f"none of {joined.extra:,} answers is to one of {len(questions):,} questions"
        raise DataError(what, where=title, fix="check that --truth is of the same benchmark and version")
    scores = measure(benchmark, score(benchmark, [one for one, _ in answered], [text for _, text in answered]))
    cells = {name: Cell.percent(one, one.total) for name, one in scores.measures.items()}
    counts = {
        "answered": len(answered), "of": len(questions), "missing": len(questions) - len(answered),
        "extra": joined.extra, "empty": sum(not text.strip() for _, text in answered), "invalid": scores.unscored,
    }  # fmt: skip
    return ScoreTable(title, cells, counts)

"""ScienceQA (Lu et al. 2022): its problems, and how LLaVA lays them out as text, for training and for evaluation.

problems.json      {pid: {question, choices, answer, hint, image, grade, subject, lecture, solution, split …}}
pid_splits.json    {split: [pid, …]}
images/{split}/{pid}/image.png
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import DataError, did_you_mean
from vistune.reading import in_format, read_json
from vistune.records import IMAGE_TOKEN, Conversation, Turn

LETTERS = "ABCDE"
PROBLEMS, SPLITS = "problems.json", "pid_splits.json"
_PROMPTS = {
    "QCM": "{question}\nContext: {context}\nOptions: {options}",
    "CQM": "Context: {context}\nQuestion: {question}\nOptions: {options}",
}
_TARGETS = {
    "A": "The answer is {letter}.",
    "LEA": "{lecture} {solution} The answer is {letter}.",
    "ALE": "The answer is {letter}. BECAUSE: {lecture} {solution}",
}
FORMATS = ("QCM-A", "QCM-LEA", "QCM-ALE", "CQM-A")
"""What the prompt and the target hold, in order: question, context, multiple choices; answer, lecture, explanation."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem. `answer` is the index of the right choice; `image` is a file's name, empty without an image."""

    id: str
    split: str
    question: str
    choices: tuple[str, ...]
    answer: int
    hint: str
    image: str
    subject: str
    grade: int
    lecture: str
    solution: str

    @property
    def image_path(self) -> str:
        """The image below the folder `images`, empty without an image."""
        return f"{self.split}/{self.id}/{self.image}" if self.image else ""

    def prompt(self, form: str) -> str:
        """The question with its context (`N/A` without a hint) and lettered choices."""
        options = " ".join(f"({letter}) {text}" for letter, text in zip(LETTERS, self.choices, strict=False))
        layout = _PROMPTS[form.partition("-")[0]]
        return _tidy(layout.format(question=self.question, context=self.hint.strip() or "N/A", options=options))

    def target(self, form: str) -> str:
        """The answer to learn. It ends, or with `ALE` begins, with "The answer is X."."""
        layout = _TARGETS[form.partition("-")[2]]
        text = layout.format(letter=LETTERS[self.answer], lecture=self.lecture, solution=self.solution)
        return _tidy(_tidy(text).removesuffix("BECAUSE:"))

    def conversation(self, form: str) -> Conversation:
        """The training sample. The image stands first, where LLaVA's training moves it and evaluation has it."""
        images = (self.image_path,) if self.image else ()
        text = f"{IMAGE_TOKEN}\n" * len(images) + self.prompt(form)
        return Conversation(self.id, (Turn("user", text), Turn("assistant", self.target(form))), images, "scienceqa")


def load_problems(path: Path) -> dict[str, Problem]:
    """The problems by id, from problems.json or the folder that holds it. Raises DataError."""
    file = path / PROBLEMS if path.is_dir() else path
    content = _read(file)
    return {pid: _problem(pid, values, f"{file}: problem {pid}") for pid, values in content.items()}


def split_ids(
    problems: Mapping[str, Problem], path: Path, *names: str, splits: Path | None = None
) -> dict[str, list[str]]:
    """The ids of the named splits that there are, in order: those of `splits`, else of the pid_splits.json at `path`.

    Without such a file, each problem's own `split` counts. Raises DataError if there is none of them.
    """
    beside = (path if path.is_dir() else path.parent) / SPLITS
    file = splits or (beside if beside.exists() else None)
    listed = _read(file) if file else _own_splits(problems)
    with in_format(str(file or path), DataError, f"{SPLITS} has a list of ids for each split"):
        found = {name: list(map(str, listed[name])) for name in names if listed.get(name)}
    if not found:
        raise DataError(f"it has no split '{names[0]}'", where=str(file or path), fix=did_you_mean(names[0], listed))
    for name, ids in found.items():
        if unknown := [pid for pid in ids if pid not in problems]:
            what = f"{len(unknown):,} problems of '{name}' are not in {PROBLEMS}, such as {unknown[0]}"
            raise DataError(what, where=str(file or path), fix="both files must be of the same version")
    return found


def conversations(path: Path, split: str, form: str) -> Iterator[Conversation]:
    """The training samples of a split in one of the `FORMATS`; image paths start from the folder `images`."""
    problems = load_problems(path)
    for pid in split_ids(problems, path, split)[split]:
        yield problems[pid].conversation(form)


def _own_splits(problems: Mapping[str, Problem]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for problem in problems.values():
        splits.setdefault(problem.split, []).append(problem.id)
    return splits


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        fix = f"name ScienceQA's folder, which holds {PROBLEMS}, or the file itself"
        raise DataError("there is no such file", where=str(path), fix=fix)
    content = read_json(path, DataError)
    if not isinstance(content, dict):
        raise DataError("this is no JSON object", where=str(path), fix=f"{PROBLEMS} has each problem under its id")
    return content


def _problem(pid: str, values: Any, where: str) -> Problem:
    fix = "it has question, choices, answer (an index from 0), subject and grade (grade7)"
    with in_format(where, DataError, fix):
        choices, answer = tuple(map(str, values["choices"])), int(values["answer"])
        grade = int(str(values["grade"]).removeprefix("grade"))
        question, subject = str(values["question"]), str(values["subject"])
        texts = [str(values.get(key) or "") for key in ("hint", "image", "lecture", "solution")]
    if not 0 <= answer < len(choices) <= len(LETTERS):
        raise DataError(f"the answer {answer} is none of {len(choices)} choices", where=where)
    hint, image, lecture, solution = texts
    split = str(values.get("split") or "test")
    return Problem(pid, split, question, choices, answer, hint, image, subject, grade, lecture, solution)


def _tidy(text: str) -> str:
    """As LLaVA does, once: the seam of an empty lecture or solution goes, and so do double spaces in the texts."""
    return text.replace("  ", " ").strip()

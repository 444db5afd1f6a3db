"""ScienceQA (Lu et al. 2022) with the cells of LLaVA's table, and its ensembles with a second model (section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from vistune.data.questions import ANSWER_WITH_LETTER
from vistune.data.scienceqa import LETTERS, Problem, load_problems, split_ids
from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, Setting, benchmarks
from vistune.evaluate.benchmarks._metrics import accuracy, only
from vistune.evaluate.scienceqa import CELLS, Pair, Reading, official, tolerant
from vistune.evaluate.statistics import Measure, share
from vistune.llm import Request
from vistune.records import Question, Turn, Verdict
from vistune.resources import load_yaml
from vistune.seeded import bits

_SHOTS = "QCM-LEA"
"""The format of the second model's examples."""


@benchmarks.register("scienceqa")
class ScienceQA(Benchmark):
    """The problems of a folder with problems.json, pid_splits.json and images; `--split` is by default `test`.

    A judge is the second model of the ensembles: it solves each problem by two examples, without images, and where
    its answer differs from the model's it answers again, knowing both.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._format: str = setting.options.get("scienceqa_format") or "direct"
        self._split: str = setting.options.get("split") or "test"
        self.max_new_tokens = 1024 if "L" in self._format else 32  # a lecture is long
        self._problems = load_problems(setting.file)
        self._ids = dict.fromkeys(split_ids(self._problems, setting.file, self._split)[self._split])
        if setting.judges and len(setting.judges.names) > 1:
            what = "ScienceQA's ensembles have one second model"
            raise VistuneError(what, where="--judge", fix="name one model")
        self._shots = self._examples() if setting.judges else []

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How answers are read, and the second model."""
        second = {"second": self.setting.judges.names[0]} if self.setting.judges else {}
        return {"extraction": "official", **second}

    def questions(self) -> Iterable[Question]:
        """In the order of the split; `type` is the subject's cell, `details["cells"]` are all of its cells."""
        for pid in self._ids:
            problem = self._problems[pid]
            cells = [name for name, belongs in CELLS.items() if belongs(problem)]
            images = (self._images / problem.image_path,) if problem.image else ()
            details = {"cells": cells, "answer": problem.answer}
            right = (problem.choices[problem.answer],)
            yield Question(pid, self._prompt(problem), images, cells[0], right, problem.choices, details)

    def prepare(self, answers: Sequence[tuple[Question, str]]) -> None:
        """Have the second model solve the problems, and then those where the two differ again."""
        if judges := self.setting.judges:
            problems = [self._problems[question.id] for question, _ in answers]
            judges.ask([self._solve(problem) for problem in problems], _has_answer)
            differ = [one for one in answers if self._pair(*one).differ]
            judges.ask([self._decide(*one) for one in differ], _has_answer)

    def score(self, question: Question, answer: str) -> Verdict:
        """Right by the official extraction, which a failed one is not; `parts` have the outcomes of other rules."""
        right = question.details["answer"]
        read, lenient = official(answer, len(question.choices)), tolerant(answer, question.choices)
        parts = {"tolerant": lenient.index == right, "failed": read.failed}
        if self.setting.judges:
            pair = self._pair(question, answer, decided=True)
            mine, second = read.index == right, pair.second.index == right
            parts |= {
                "second": second, "second_failed": pair.second.failed, "differ": pair.differ,
                "complement": pair.complement == right, "judge": pair.judge == right,
                "both_right": mine and second, "either_right": mine or second,
            }  # fmt: skip
        how = read.how if read.failed is lenient.failed else f"{read.how}; read tolerantly: {lenient.letter}"
        return Verdict(float(read.index == right), read.letter, how, {name: float(one) for name, one in parts.items()})

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`accuracy` by the official extraction, in all and in each cell; `tolerant`: by the tolerant one; `failed`:
        the share without an official answer. With a second model also its accuracy, that of both ensembles, and how
        often the two differ, both are right, and either is (the ensembles' upper bound)."""  # fmt: skip
        cells = {f"accuracy/{name}": only(accuracy, _in_cell(name)) for name in CELLS if name != "Avg"}
        names = ["tolerant", "failed"]
        if self.setting.judges:
            names += ["second", "second_failed", "complement", "judge", "differ", "both_right", "either_right"]
        return {"accuracy": accuracy, **cells, **{name: partial(_share, name) for name in names}}

    @property
    def _images(self) -> Path:
        file = self.setting.file
        return self.setting.images or (file if file.is_dir() else file.parent) / "images"

    def _prompt(self, problem: Problem) -> str:
        if self._format == "direct":
            return f"{problem.prompt('CQM-A')}\n{ANSWER_WITH_LETTER}"  # as LLaVA-1.5
        return problem.prompt(self._format)

    def _pair(self, question: Question, answer: str, *, decided: bool = False) -> Pair:
        """The model's answer and the stored ones of the second model; with `decided` also the one that decides."""
        choices = len(question.choices)
        first, second = official(answer, choices), self._reply(self._solve(self._problems[question.id]), choices)
        pair = Pair(first, second)
        if decided and pair.differ:
            return pair._replace(third=self._reply(self._decide(question, answer), choices))
        return pair

    def _reply(self, request: Request, choices: int) -> Reading:
        return official(self._text(request) or "", choices)

    def _text(self, request: Request) -> str | None:
        judges = self.setting.judges
        assert judges is not None
        return next(iter(judges.replies(request, _has_answer).values()))

    def _solve(self, problem: Problem) -> Request:
        """The problem after two solved ones, as text."""
        messages = []
        for shot in self._shots:
            messages += [Turn("user", shot.prompt(_SHOTS)), Turn("assistant", shot.target(_SHOTS))]
        messages.append(Turn("user", problem.prompt(_SHOTS)))
        return _request(problem, "scienceqa", messages)

    def _decide(self, question: Question, answer: str) -> Request:
        """The problem with both answers to it."""
        problem = self._problems[question.id]
        second = self._text(self._solve(problem)) or _texts()["no_answer"]
        text = _texts()["judge"].format(problem=problem.prompt(_SHOTS), first=answer, second=second)
        return _request(problem, "scienceqa-judge", [Turn("user", text)])

    def _examples(self) -> list[Problem]:
        """Two problems with an explanation and without an image, drawn by the seed, if there are any from training."""
        usable = [
            problem for pid, problem in self._problems.items()
            if pid not in self._ids and problem.solution and not problem.image
        ]  # fmt: skip
        if len(usable) < 2:
            what = "the second model is shown two solved problems of another split, and there are none"
            raise DataError(what, where=str(self.setting.file), fix="use the whole problems.json")
        key = self.setting.seed, "shot"
        return sorted(usable, key=lambda problem: (problem.split != "train", bits(*key, problem.id)))[:2]


@cache
def _texts() -> dict[str, str]:
    return dict(load_yaml("vistune.evaluate.benchmarks", "scienceqa.yaml"))


def _request(problem: Problem, kind: str, messages: Sequence[Turn]) -> Request:
    return Request(
        _texts()["system"], tuple(messages), kind=kind, record_id=problem.id, max_tokens=1024, temperature=0.0
    )


def _has_answer(text: str) -> bool:
    return not official(text, len(LETTERS)).failed


def _in_cell(name: str) -> Callable[[Scored], bool]:
    return lambda one: name in one.question.details["cells"]


def _share(part: str, scored: Sequence[Scored]) -> Measure:
    return share([one.verdict.parts[part] for one in scored], [one.question.cluster for one in scored])

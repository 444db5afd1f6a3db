"""Runs a model on benchmarks: answers, verdicts, scores. It knows no benchmark by its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Benchmark, Scored
from vistune.evaluate.models import Answerer, Prompt
from vistune.evaluate.results import AnswerFile, BenchmarkScores, Scores, verdict_row, write_verdicts
from vistune.image_files import UnreadableImageError, open_image_file
from vistune.reading import open_file
from vistune.records import Question
from vistune.terminal import Terminal

_CHUNK = 1024
"""Number of questions that a model gets at once; it sorts and batches them."""


def run_benchmarks(
    model: Answerer, benchmarks: Mapping[str, Benchmark], out: Path, *, label: str | None = None,
    limit: int | None = None, blank_images: bool = False, batch_size: int = 64, console: Console | None = None,
    check: Callable[[str, Question], object] = lambda *_: None, files: Mapping[str, str | None] | None = None,
) -> Scores:  # fmt: skip
    """Answer the benchmarks' questions, score the answers and write all to the folder `out`.

    Writes answers.jsonl as it goes, synced to the disk after each `batch_size` answers, then verdicts.jsonl and
    scores.json (`vistune.evaluate.results`). An answer that the folder already has for the same weights, images, prompt
    and parameters is not generated again. `limit` is the number of images with questions of each benchmark, from the
    first. `blank_images` replaces every image by a uniform gray: the result is what can be guessed. `check` gets each
    benchmark's name and question first; what it raises ends the run. `files` are the benchmarks' own, for
    errors.

    Raises DataError for a benchmark without questions and for an image that cannot be read, ClientError if a judge
    or a server fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    stored, label = AnswerFile(out), label or model.name
    rows: list[dict[str, Any]] = []
    scores: dict[str, BenchmarkScores] = {}
    for name, benchmark in benchmarks.items():
        questions = first_images(benchmark.questions(), limit)
        if not questions:
            where = (files or {}).get(name) or ""
            raise DataError(f"the benchmark '{name}' has no question", where=where, fix="check its data")
        for question in questions:
            check(name, question)
        texts = _answers(model, name, benchmark, questions, stored, blank_images, batch_size, console)
        scored = score(benchmark, questions, texts)
        rows += [
            verdict_row(name, *one, model=label)
            for one in zip(questions, texts, [verdict for _, verdict in scored], strict=True)
        ]
        scores[name] = measure(benchmark, scored)
    write_verdicts(out, rows)
    result = Scores(label, scores)
    result.write(out)
    return result


def score(benchmark: Benchmark, questions: Sequence[Question], answers: Sequence[str]) -> list[Scored]:
    """Each question with the verdict on its answer."""
    benchmark.prepare(list(zip(questions, answers, strict=True)))
    return [Scored(one, benchmark.score(one, text)) for one, text in zip(questions, answers, strict=True)]


def measure(benchmark: Benchmark, scored: Sequence[Scored]) -> BenchmarkScores:
    """The metrics of a benchmark; the first, its headline, also for each type of questions (`accuracy/count`)."""
    measures = {name: metric(scored) for name, metric in benchmark.metrics.items()}
    headline, metric = next(iter(benchmark.metrics.items()))
    types = dict.fromkeys(one.question.type for one in scored)
    if len(types) > 1:
        for kind in types:
            measures[f"{headline}/{kind}"] = metric([one for one in scored if one.question.type == kind])
    unscored = sum(one.verdict.value is None for one in scored)
    return BenchmarkScores(len(scored), unscored, measures, benchmark.protocol)


def check_unscored(benchmarks: Mapping[str, Benchmark], scores: Scores) -> None:
    """Raise VistuneError if more answers than a benchmark allows are unscored."""
    for name, benchmark in benchmarks.items():
        one = scores.benchmarks[name]
        if one.unscored > benchmark.max_unscored * one.n:
            what = f"{one.unscored:,} of {one.n:,} answers are unscored, more than {benchmark.max_unscored:.0%}"
            fix = (
                "verdicts.jsonl says why; the same command requests again what got no reply, with --attempts 4 also "
                "what cannot be read; --allow-unparsed accepts the scores"
            )
            raise VistuneError(what, where=name, fix=fix)


def first_images(questions: Iterable[Question], limit: int | None) -> list[Question]:
    """The questions about the first `limit` images; a question without an image counts as one."""
    if limit is None:
        return list(questions)
    chosen: dict[str, None] = {}
    kept = []
    for question in questions:
        if question.cluster in chosen or len(chosen) < limit:
            chosen[question.cluster] = None
            kept.append(question)
    return kept


def _answers(
    model: Answerer, name: str, benchmark: Benchmark, questions: Sequence[Question], stored: AnswerFile,
    blank: bool, batch_size: int, console: Console | None,
) -> list[str]:  # fmt: skip
    """The answers to a benchmark's questions, those that are stored and those that the model now generates."""
    digest = cache(_digest)
    new = benchmark.max_new_tokens
    keys = [
        _key(model.identity, one, one.choices if _is_compared(benchmark, one) else new, blank, digest)
        for one in questions
    ]
    missing = [i for i in {key: i for i, key in enumerate(keys)}.values() if keys[i] not in stored]
    plain = cache(lambda size: Image.new("RGB", size, (128, 128, 128)))  # one object a size is encoded once
    console = console or Terminal(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=len(questions), completed=len(questions) - len(missing))
        for start in range(0, len(missing), _CHUNK):
            chosen = missing[start : start + _CHUNK]
            prompts = [_prompt(questions[i], plain if blank else None) for i in chosen]
            found = _chunk_answers(model, benchmark, [questions[i] for i in chosen], prompts, batch_size)
            for count, (index, text) in enumerate(found, 1):
                i = chosen[index]
                stored.add([_answer_row(keys[i], name, questions[i], text, model.name)])
                if count % batch_size == 0 or count == len(chosen):
                    stored.sync()
                progress.advance(task)
            if not console.is_terminal:
                done = len(questions) - len(missing) + start + len(chosen)
                console.print(f"{name}: {done:,} of {len(questions):,} answers", highlight=False)
    return [stored[key] for key in keys]


def _is_compared(benchmark: Benchmark, question: Question) -> bool:
    """Whether the likelihoods of the question's choices are its answer."""
    return benchmark.by_likelihood and bool(question.choices)


def _chunk_answers(
    model: Answerer, benchmark: Benchmark, questions: Sequence[Question], prompts: Sequence[Prompt], batch_size: int
) -> Iterator[tuple[int, str]]:
    """The answers with their questions' indices, first those in words, then those by likelihood."""
    compared = [place for place, question in enumerate(questions) if _is_compared(benchmark, question)]
    worded = [place for place, question in enumerate(questions) if not _is_compared(benchmark, question)]
    if worded:
        wanted = [prompts[place] for place in worded]
        for index, text in model.answers(wanted, max_new_tokens=benchmark.max_new_tokens, batch_size=batch_size):
            yield worded[index], text
    if compared:
        wanted, choices = [prompts[place] for place in compared], [questions[place].choices for place in compared]
        for index, found in model.likelihoods(wanted, choices, batch_size=batch_size):
            yield compared[index], json.dumps(found)


def _prompt(question: Question, plain: Callable[[tuple[int, int]], Image.Image] | None) -> Prompt:
    return Prompt(_images(question, plain), question.text, f"question {question.id}")


def _images(
    question: Question, plain: Callable[[tuple[int, int]], Image.Image] | None
) -> tuple[Path | Image.Image, ...]:
    """The question's images, or plain ones of their sizes. Raises DataError if the size cannot be read."""
    if plain is None:
        return question.images
    try:
        return tuple(plain(_size(path)) for path in question.images)
    except UnreadableImageError as error:
        fix = "replace the image, or remove the question"
        raise DataError(f"the image cannot be read: {error}", where=f"question {question.id}", fix=fix) from None


def _size(path: Path) -> tuple[int, int]:
    with open_image_file(path) as image:
        return image.size


def _digest(path: Path) -> str:
    """The SHA-256 of a file. Raises DataError if it cannot be read."""
    with open_file(path, DataError) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(
    identity: str, question: Question, limits: int | Sequence[str], blank: bool, digest: Callable[[Path], str]
) -> str:
    """The hash of what determines an answer: weights, images' bytes, prompt and parameters, and never a path.

    `limits` are the number of new tokens, or the choices that are compared.
    """
    parts = [identity, question.text, limits, blank, [digest(path) for path in question.images]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _answer_row(key: str, benchmark: str, question: Question, text: str, model: str) -> dict[str, Any]:
    """A line of answers.jsonl, with the keys of LLaVA's answer files."""
    return {
        "question_id": question.id, "benchmark": benchmark, "images": [str(image) for image in question.images],
        "prompt": question.text, "text": text, "model_id": model, "key": key,
    }  # fmt: skip

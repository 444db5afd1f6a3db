"""A run of `vistune eval`: a recipe's model, annotated images, benchmarks and judges, opened and run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import track

from vistune.data.near_identical import NearIdentical
from vistune.data.questions import read_questions
from vistune.errors import AnnotationError, DataError, VistuneError
from vistune.evaluate.benchmarks import Benchmark, Setting, benchmarks
from vistune.evaluate.judges import ATTEMPTS, Judges, open_judge
from vistune.evaluate.models import Answerer, Dtype, open_model
from vistune.evaluate.results import ANSWERS, SCORES, VERDICTS, Scores
from vistune.evaluate.runner import check_unscored, run_benchmarks
from vistune.image_files import ImagesFolder, is_file
from vistune.llm.budget import Limits, Price
from vistune.model.familiar import known_data, note_on
from vistune.output_folder import locked, own_files
from vistune.recipe import schema
from vistune.recipe.evaluation import EvaluateRecipe, RunEvaluation
from vistune.recipe.training import Recipe
from vistune.records import ImageRecord, Question
from vistune.sources import open_annotations, with_size
from vistune.terminal import Terminal

if TYPE_CHECKING:
    from vistune.data.source import DataSource


_RECIPE = "recipe.yaml"
_FREE = {
    "allow_unparsed", "attempts", "base_url", "batch_size", "concurrency", "judge_base_url", "judge_key_env", "key_env",
    "max_total_tokens", "max_usd", "patience", "price", "retries", "retry_failed", "skip_bad_records",
}  # fmt: skip
"""Options that do not change what is answered and scored, or only by what is still missing."""


class Evaluation:
    """The benchmarks of a recipe are opened before the model is loaded, so that a mistake is reported at once."""

    def __init__(
        self, model: Answerer | str, recipe: EvaluateRecipe, out: Path, *, console: Console | None = None,
        overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.recipe, self.out, self.overwrite = model, recipe, out, overwrite
        self.console = console or Terminal(stderr=True)
        self.judges = self._judges()
        self.benchmarks = self._benchmarks()
        self.scores: Scores | None = None
        self._folders: dict[str, list[ImagesFolder]] = {}

    def run(self) -> Scores:
        """Answer, score and write all to the folder; see `runner.run_benchmarks`.

        Raises VistuneError if another run is using the folder, and, without `overwrite`, if it holds finished results
        of other weights or options, or other files of these names.
        """
        with locked(self.out):  # before the model is loaded
            self.scores = self._run()
        return self.scores

    def _run(self) -> Scores:
        recipe = self.recipe
        if recipe.questions and isinstance(self.model, str) and not recipe.allow_training_images:
            check_leaks(list(self.benchmarks["questions"].questions()), Path(self.model), self.console)
        model = self._opened(self.model) if isinstance(self.model, str) else self.model
        places = [recipe.data, recipe.images, *recipe.paths().values()]
        if isinstance(self.model, str) and (note := note_on(known_data(self.model), places)):
            self.console.print(note, soft_wrap=True)
        of = {"weights": model.identity, **recipe.model_dump(mode="json", exclude=_FREE)}
        files = (VERDICTS, SCORES, _RECIPE)
        with ExitStack() as stack:
            stack.enter_context(own_files(self.out, files, grows=(ANSWERS,), run=of, overwrite=self.overwrite))
            if self.judges:
                stack.enter_context(self.judges.opened())
            label = model.name + (" (blind)" if recipe.blind else "")
            scores = run_benchmarks(
                model, self.benchmarks, self.out, label=label, limit=recipe.limit, blank_images=recipe.blind,
                batch_size=recipe.batch_size, console=self.console, check=self._check_images, files=recipe.paths(),
            )  # fmt: skip
            schema.save(recipe, self.out / _RECIPE)
        return scores

    def check(self) -> None:
        """Raise VistuneError if more answers are unscored than the benchmarks, and the recipe, allow."""
        if self.scores and not self.recipe.allow_unparsed:
            check_unscored(self.benchmarks, self.scores)

    def _check_images(self, name: str, question: Question) -> None:
        """Raise DataError for an image outside of the folders that the benchmark's images are in."""
        given = self.recipe.paths()[name]
        if given is None or self.recipe.allow_outside:  # without a path, images are those of checked annotations
            return
        if name not in self._folders:
            path = Path(given)
            places = [self.recipe.images, path if path.is_dir() else path.parent, self.out / "images"]
            self._folders[name] = [ImagesFolder(place) for place in places if place]
        for image in question.images:
            if is_file(image) and not any(folder.holds(str(image)) for folder in self._folders[name]):
                what = f"its image {image} is outside of the images' folder"
                fix = "name a folder that holds the images with --images, or add --allow-outside"
                raise DataError(what, where=f"{name}: question {question.id}", fix=fix)

    def _opened(self, spec: str) -> Answerer:
        recipe = self.recipe
        limits = Limits(
            concurrency=recipe.concurrency or 16, retries=recipe.retries, patience=60 * recipe.patience,
            retry_failed=recipe.retry_failed,
        )  # fmt: skip
        return open_model(
            spec, dtype=cast(Dtype, recipe.dtype), load_in_4bit=recipe.load_in_4bit, base_url=recipe.base_url,
            key_env=recipe.key_env, replies=self.out, limits=limits,
            max_megapixels=recipe.max_megapixels,
        )  # fmt: skip

    def _benchmarks(self) -> dict[str, Benchmark]:
        recipe = self.recipe
        records = self._records()
        made = {}
        for name, path in recipe.paths().items():
            make = benchmarks.get(name.partition(":")[0])
            made[name] = make(
                Setting(
                    Path(path) if path else None, records, Path(recipe.images) if recipe.images else None,
                    self.out / "images", recipe.seed, recipe.model_dump(), self.judges,
                )
            )  # fmt: skip
        return made

    def _records(self) -> list[ImageRecord] | None:
        if self.recipe.data is None:
            return None
        try:
            source = open_annotations(self.recipe, default_split="test", warn=self._print)
        except AnnotationError as error:
            if _has_questions(Path(self.recipe.data)):
                what, fix = "these are questions with answers, not annotations", f"--questions {self.recipe.data}"
                raise DataError(what, where=self.recipe.data, fix=fix) from error
            raise
        return [with_size(record) for record in source]

    def _judges(self) -> Judges | None:
        recipe = self.recipe
        if not recipe.judge:
            return None
        server = {"base_url": recipe.judge_base_url, "key_env": recipe.judge_key_env, "timeout": None}
        clients = [open_judge(spec, self.out, **_given(server)) for spec in recipe.judge]
        price = Price.parse(recipe.price) if recipe.price else None
        if recipe.max_usd is not None and price is None:
            raise VistuneError("a cap in USD needs the judge's price", where="--max-usd", fix="add --price IN:OUT")
        limits = Limits(
            concurrency=recipe.concurrency or min(client.concurrency for client in clients),
            attempts=recipe.attempts or ATTEMPTS, retries=recipe.retries, patience=60 * recipe.patience,
            max_usd=recipe.max_usd, max_total_tokens=recipe.max_total_tokens, retry_failed=recipe.retry_failed,
        )  # fmt: skip
        return Judges(clients, self.out, limits, price=price, console=self.console)

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _has_questions(path: Path) -> bool:
    """Whether a file is one of questions and answers."""
    try:
        return next(read_questions(path), None) is not None
    except VistuneError:
        return False


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def check_leaks(questions: Sequence[Question], checkpoint: Path, console: Console) -> None:
    """Raise DataError if an image of a question is, or looks like, one in the training data of a checkpoint.

    The data is that of the recipe beside the checkpoint's folder; a checkpoint without one is not checked. Training
    files that are not there any more are reported and left out.
    """
    recipe = checkpoint.absolute().parent / "recipe.yaml"
    if not recipe.is_file():
        return
    known = NearIdentical()
    for path in dict.fromkeys(image for question in questions for image in question.images):
        known.add(path)
    for source in _sources(recipe, console):
        names = list(dict.fromkeys(name for conversation in source for name in conversation.images))
        for name in track(
            names,
            "looking for test images in the training data",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            image = source.image(name).open() if source.holds(name) else Path(name)
            if found := known.find(image):
                what = f"the test image {found} is in the training data: {name}"
                fix = "split by image with `vistune split`, or accept the leak with --allow-training-images"
                raise DataError(what, where=source.label, fix=fix)


def _sources(recipe: Path, console: Console) -> Iterator[DataSource]:
    """The data sets of all stages, each once."""
    from vistune.data.source import DataSource  # imports torch

    entries = {
        (one.path, one.split, one.subset): one
        for stage in schema.load(Recipe, recipe).stages
        for one in stage.sources()
    }
    for entry in entries.values():
        try:
            yield DataSource(entry, skipped=lambda _: None)
        except DataError as error:
            console.print(f"not checked for test images: {error.where}: {error.what}", markup=False, soft_wrap=True)


def step_evaluation(evaluation: RunEvaluation) -> Callable[[Any, Any, Path, int], dict[str, float]]:
    """Scores a model during its training (`train.loop.Evaluate`), in the folder `eval/step-N` of its stage.

    The figures are all measures, as `scene_qa/accuracy`. Raises what `Evaluation` raises.
    """

    def evaluate_step(model: Any, processor: Any, folder: Path, step: int) -> dict[str, float]:
        from vistune.evaluate.models.checkpoint import Checkpoint
        from vistune.model.assistant import Assistant

        answerer = Checkpoint(lambda: Assistant(model, processor), f"step {step}", identity=f"step {step}")
        out = folder / "eval" / f"step-{step}"
        run = Evaluation(answerer, evaluation.recipe(), out, console=Terminal(quiet=True), overwrite=True)
        return {
            f"{benchmark}/{name}": measure.value
            for benchmark, scores in run.run().benchmarks.items()
            for name, measure in scores.measures.items()
            if measure.value is not None
        }

    return evaluate_step

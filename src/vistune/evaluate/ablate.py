"""Ablations: the last stage of a recipe trained on several data mixes or with other settings, and compared.

The earlier stages are trained once (the paper's stage 1); every variant starts from their checkpoint, unless it changes
a key of the model or of these stages. All variants answer the same questions, so that differences are paired.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vistune.data.source import DataSource
from vistune.errors import DataError, RecipeError, did_you_mean
from vistune.evaluate.benchmarks import Metric, Scored
from vistune.evaluate.compare import metric_difference
from vistune.evaluate.results import load_verdicts, scored
from vistune.evaluate.run import Evaluation
from vistune.evaluate.statistics import Measure
from vistune.evaluate.tables import Cell
from vistune.formats.conversations import write_llava
from vistune.model.checkpoint import is_complete
from vistune.output_folder import output_folder
from vistune.recipe import schema
from vistune.recipe.training import DataRecipe, Recipe, StageRecipe
from vistune.records import Conversation
from vistune.seeded import fraction
from vistune.storage import atomic_text
from vistune.terminal import Terminal
from vistune.train.launch import train_by_command
from vistune.train.run import check_recipe

TABLE = "ablation.json"
PAPER_MIXES = ("all", "detail,reasoning", "conversation,detail=0.05,reasoning=0.1", "conversation", "none")
"""The data of table 4 in the paper, from the most to none: full, detail + complex, conversation + 5 % + 10 %, …"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table: the kinds in the last stage's data with their shares, and changed keys of the recipe.

    `kinds` is None for all data and empty for no training in the last stage.
    """

    name: str
    kinds: Mapping[str, float] | None = None
    share: float = 1.0
    overrides: Sequence[str] = ()
    skipped: str | None = None
    """Name of a stage that is left out."""


@dataclass(frozen=True, slots=True)
class Row:
    """The results of a variant over all seeds: conversations in the last stage, and each benchmark's headline.

    `differences` are to the first variant, paired by question; a question's answers of all seeds count as one image's.
    """

    variant: str
    conversations: int
    measures: Mapping[str, Measure]
    differences: Mapping[str, Measure]


def variants(
    mixes: Sequence[str] = (), fractions: Sequence[float] = (), grid: Sequence[str] = (), skip: Sequence[str] = ()
) -> list[Variant]:
    """The variants of the command line, the full data first.

    A mix is `all`, `none` or kinds with shares as in `conversation,detail=0.05`; a fraction is a share of all data; an
    item of the grid is `KEY=VALUE,VALUE…`, and all combinations are made; `skip` names stages to leave out, each in a
    variant of its own. Raises RecipeError.
    """
    if not (mixes or fractions or grid or skip):
        mixes = PAPER_MIXES
    made = [Variant("all")]
    made += [Variant(mix, {} if mix == "none" else _shares(mix)) for mix in mixes if mix != "all"]
    made += [Variant(f"{100 * share:g} % of the data", share=share) for share in fractions]
    axes = [
        [f"{key}={value}" for value in values.split(",")] for key, _, values in (one.partition("=") for one in grid)
    ]
    made += [Variant(", ".join(one), overrides=one) for one in product(*axes) if one]
    return made + [Variant(f"without {name}", skipped=name) for name in skip]


def ablate(
    recipe: Path, out: Path, chosen: Sequence[Variant], *, overrides: Sequence[str] = (), seeds: int = 1,
    console: Console | None = None, overwrite: bool = False,
) -> list[Row]:  # fmt: skip
    """Train and evaluate every variant with every seed in `out`; returns the rows of the table, as ablation.json holds.

    The same call resumes: finished runs and stored answers stay. Raises VistuneError if another run is using the
    folder, and, without `overwrite`, for files there that no such run has written, RecipeError if the recipe has no
    `evaluation` or no earlier stage to share, DataError if the data's kinds are not known.
    """
    console = console or Terminal(stderr=True)
    first = schema.load(Recipe, recipe, overrides)
    if first.evaluation is None:
        fix = "add `evaluation` with its benchmarks, e.g. --set evaluation.data=PATH"
        raise RecipeError("the recipe does not say what to evaluate", where=str(recipe), fix=fix)
    stages = [stage.name for stage in first.stages]
    for variant in chosen:
        if variant.skipped is not None and variant.skipped not in stages:
            fix = did_you_mean(variant.skipped, stages)
            raise RecipeError("there is no such stage", where=f"--skip {variant.skipped}", fix=fix)
    numbers = range(first.seed, first.seed + seeds)
    names = [TABLE, *(f"seed{seed}" for seed in numbers)]
    with output_folder(out, names, overwrite=overwrite):
        runs: dict[str, list[_Run]] = {variant.name: [] for variant in chosen}
        for variant in chosen:
            for seed in numbers:
                changed = schema.load(Recipe, recipe, [*overrides, f"seed={seed}", *variant.overrides])
                runs[variant.name].append(_Run(changed, variant, out / f"seed{seed}", console))
        for run in (one for several in zip(*runs.values(), strict=True) for one in several):  # one seed after the other
            run.train()
            run.evaluate()
        rows = [_row(name, several, runs[chosen[0].name]) for name, several in runs.items()]
        with atomic_text(out / TABLE) as file:
            file.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return rows


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print a row a variant: its conversations, and each headline with its interval and difference."""
    table = Table("variant", "data", title="Ablation, % (± half of the 95 % interval)", box=box.SIMPLE_HEAD)
    for name in rows[0].measures:
        table.add_column(name.replace("/", "\n"), justify="right", no_wrap=True)
        table.add_column(f"to {rows[0].variant}", justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for name, measure in row.measures.items():
            gap = row.differences.get(name)
            cells += [Cell.percent(measure).short(), Cell.percent(gap).short() if gap else ""]
        table.add_row(row.variant, f"{row.conversations:,}", *cells)
    (console or Terminal()).print(table)


class _Run:
    """The training and evaluation of a variant with one seed; its data is written, and so checked, at once."""

    def __init__(self, recipe: Recipe, variant: Variant, folder: Path, console: Console) -> None:
        self._recipe, self._variant, self._console = recipe, variant, console
        self._folder = folder / re.sub(r"[^\w.=,-]+", "_", variant.name)
        last = recipe.stages[-1].name
        own = variant.skipped or any(not one.startswith(f"stages.{last}.") for one in variant.overrides)
        early = [stage for stage in recipe.stages[:-1] if stage.name != variant.skipped]
        self._early = recipe.model_copy(update={"stages": early, "evaluation": None}) if early else None
        self._early_folder = self._folder / "early" if own else folder / "early"
        self.conversations = 0
        self._last = None if variant.kinds == {} else self._with_data(recipe.stages[-1])
        self.headlines: dict[str, tuple[Metric, list[Scored]]] = {}
        """The first metric of each benchmark, with the scored questions."""
        if not (self._early or self._last):
            what = "there is no earlier stage, so nothing is trained without data"
            raise RecipeError(what, where="the mix none", fix="leave this mix out")

    def train(self) -> None:
        """Train the earlier stages, if no other variant has, and the last one on this variant's data."""
        self._console.rule(f"{self._variant.name} (seed {self._recipe.seed})")
        start: dict[str, Any] = {"evaluation": None}
        if self._early:
            self._checkpoint = _train(self._early, self._early_folder)
            start |= {"start": str(self._checkpoint), "model": None}
        if self._last:
            self._checkpoint = _train(self._recipe.model_copy(update=start | {"stages": [self._last]}), self._folder)

    def evaluate(self) -> None:
        """Answer the questions of the recipe's benchmarks, but for those that are answered, and score the answers."""
        evaluation = self._recipe.evaluation
        assert evaluation is not None
        folder = self._folder / "eval"
        run = Evaluation(str(self._checkpoint), evaluation.recipe(), folder, console=self._console, overwrite=True)
        run.run()
        rows = load_verdicts(self._folder / "eval")
        for name, benchmark in run.benchmarks.items():
            metric_name, metric = next(iter(benchmark.metrics.items()))
            own = [scored(row) for row in rows if row["benchmark"] == name]
            self.headlines[f"{name} {metric_name}"] = metric, own

    def _with_data(self, stage: StageRecipe) -> StageRecipe:
        """The stage with this variant's part of its data, written as LLaVA's JSON; all of it stays where it is."""
        sources = [(entry, DataSource(entry)) for entry in stage.sources()]
        if self._variant.kinds is None and self._variant.share == 1:
            self.conversations = sum(len(source) for _, source in sources)
            return stage
        folder = self._folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for number, (entry, source) in enumerate(sources):
            path = folder / f"{number}.json"
            if count := write_llava(_chosen(source, entry, self._variant), path):
                entries.append(DataRecipe(path=str(path), images=entry.images, weight=entry.weight))
            self.conversations += count
        if not entries:
            raise DataError("the mix has no conversation", where=self._variant.name, fix="give larger shares")
        return stage.model_copy(update={"data": entries})


def _train(recipe: Recipe, folder: Path) -> Path:
    """Train a recipe, unless that is done; returns the last stage's checkpoint."""
    checkpoint = folder / recipe.stages[-1].name
    check_recipe(recipe, folder)
    if not is_complete(checkpoint):
        folder.mkdir(parents=True, exist_ok=True)
        schema.save(recipe, folder / "variant.yaml")
        train_by_command(folder / "variant.yaml", folder)
    return checkpoint


def _chosen(source: DataSource, entry: DataRecipe, variant: Variant) -> Iterator[Conversation]:
    """The conversations of a mix, each in it or not by its id alone, so that a larger share holds a smaller one.

    Raises DataError for an unknown kind and for images that stand inside the data.
    """
    kinds = _kinds(source, Path(entry.path)) if variant.kinds is not None else {}
    if variant.kinds and (unknown := variant.kinds.keys() - set(kinds.values())):
        name = sorted(unknown)[0]
        raise DataError(f"it has no kind '{name}'", where=entry.path, fix=did_you_mean(name, set(kinds.values())))
    for conversation in source:
        share = variant.share
        if variant.kinds is not None:
            share *= variant.kinds.get(kinds[conversation.id], 0.0)
        if fraction("ablation", conversation.id) < share:
            if any(source.holds(name) for name in conversation.images):
                raise DataError("its images stand inside the data", where=entry.path, fix="write them to files")
            names = tuple(os.path.relpath(name, entry.images) for name in conversation.images)
            yield replace(conversation, images=names)


def _kinds(source: DataSource, path: Path) -> dict[str, str]:
    """The kind of each conversation: from its key `kind`, else from the provenance.jsonl of `vistune generate`."""
    kinds = {one.id: one.kind for one in source}
    provenance = path.with_name("provenance.jsonl")
    if not all(kinds.values()) and provenance.is_file():
        with provenance.open(encoding="utf-8") as file:
            kinds |= {row["id"]: row["kind"] for row in map(json.loads, file) if row["id"] in kinds}
    if unknown := next((name for name, kind in kinds.items() if not kind), None):
        fix = "add the key 'kind' to each conversation, or use data that `vistune generate` wrote"
        raise DataError(f"the kind of conversation {unknown} is not known", where=str(path), fix=fix)
    return kinds


def _shares(mix: str) -> dict[str, float]:
    """`conversation,detail=0.05` as the share of each kind. Raises RecipeError."""
    shares = {}
    for item in mix.split(","):
        name, equals, share = item.strip().partition("=")
        try:
            shares[name] = float(share) if equals else 1.0
        except ValueError:
            raise RecipeError(f"'{share}' is not a share", where=f"--mix {mix}", fix=f"{name}=0.1") from None
    return shares


def _row(name: str, several: Sequence[_Run], reference: Sequence[_Run]) -> Row:
    """The row of a variant from its runs with all seeds."""
    measures, differences = {}, {}
    for headline, (metric, _) in several[0].headlines.items():
        own, base = (_all_seeds(runs, headline) for runs in (several, reference))
        measures[headline] = metric(own)
        if several is not reference:
            differences[headline] = metric_difference(metric, own, base)
    return Row(name, sum(run.conversations for run in several) // len(several), measures, differences)


def _all_seeds(runs: Sequence[_Run], headline: str) -> list[Scored]:
    """The scored questions of all runs; the seed is made part of a question's id, so that pairs are of one seed."""
    return [
        one._replace(question=replace(one.question, id=f"{seed}/{one.question.id}"))
        for seed, run in enumerate(runs)
        for one in run.headlines[headline][1]
    ]

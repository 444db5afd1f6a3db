"""Judging a model: benchmarks, judges, statistics, ablations, reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.evaluate.models import Answerer
    from vistune.evaluate.results import Scores


def evaluate(model: str | Answerer, out: str | Path, *, overwrite: bool = False, **options: Any) -> Scores:
    """Score a model on benchmarks and write answers, verdicts and scores to the folder `out`.

    `model` is a checkpoint's folder, `hf:ID`, `openai:NAME`, or an object that answers. `options` are those of `vistune
    eval` (`EvaluateRecipe`): `data="my-data", split="test"`, or `questions="test.json"`. `overwrite` replaces finished
    results of other weights or options. Raises VistuneError, also if
    more answers are unscored than a benchmark allows; the files are then written.
    """
    from vistune.evaluate.run import Evaluation
    from vistune.recipe.evaluation import EvaluateRecipe
    from vistune.recipe.schema import load

    run = Evaluation(model, load(EvaluateRecipe, None, options=options), Path(out), overwrite=overwrite)
    scores = run.run()
    run.check()
    return scores

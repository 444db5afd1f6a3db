from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.recipe.training import Recipe
from vistune.train.run import train

_KILL = """
import os, signal, sys
from vistune.train.run import train

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(last):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
train(recipe, out)
"""

MakeRecipe = Callable[..., Recipe]
Start = Callable[..., BaseProcess]


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a process that runs some code with the given variables; torch is imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vistune.train.run"])

    def begin(code: str, **variables: Any) -> BaseProcess:
        process = context.Process(target=exec, args=(code, variables))
        process.start()
        return process

    return begin


@pytest.fixture(scope="session")
def kill(start: Start) -> Callable[[Recipe, Path, str], BaseProcess]:
    """Trains in a process that kills itself, as by `kill -9`, when it is about to give `last` its final name."""
    return lambda recipe, out, last: start(_KILL, recipe=recipe, out=out, last=last)


@pytest.fixture(scope="session")
def make_recipe(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeRecipe:
    """A recipe of both stages on twelve small pictures; keywords change its stages."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    words = ["how", "many", "dogs", "are", "there", "left", "of", "the", "cat", "a", "red", "box", "yes", "no"]
    align, tune = [], []
    for index in range(12):
        name = f"{index}.png"
        color = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (rng.randint(20, 40), rng.randint(20, 40)), color).save(folder / name)
        texts = [" ".join(rng.choices(words, k=rng.randint(2, 8))) for _ in range(5)]
        align.append(_record(index, name, ["<image>\nwhat is it", texts[0]]))
        turns = [f"<image>\n{texts[1]}", texts[2]] + ([texts[3], texts[4]] if index % 2 else [])
        tune.append(_record(index, name, turns))
    tune.append({**_record(12, "", ["how many", "two dogs"]), "image": None})
    (folder / "align.json").write_text(json.dumps(align))
    (folder / "tune.json").write_text(json.dumps(tune))

    def make(**changes: Any) -> Recipe:
        common = {
            "images": str(folder), "epochs": 4, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-2,
            "checkpoint_every": 2, "log_every": 3, **changes,
        }  # fmt: skip
        align_stage = {
            "name": "align",
            "data": str(folder / "align.json"),
            "template": "plain",
            "trains": ["projector"],
        }
        tune_stage = {"name": "tune", "data": str(folder / "tune.json"), "trains": ["projector", "language"]}
        model = {
            "vision_tower": str(backbones / "vision"), "language_model": str(backbones / "language"),
            "projector": "linear",
        }  # fmt: skip
        stages = [{**align_stage, **common}, {**tune_stage, **common}]
        return Recipe.model_validate({"name": "tiny", "model": model, "stages": stages})

    return make


@pytest.fixture
def dpo(make_recipe: Any, tmp_path: Path) -> Recipe:
    """A recipe with one stage of DPO on twelve pairs: one about no image, one with an earlier answer."""
    base = make_recipe()
    rows = [
        {"id": str(number), "images": [f"{number // 2}.png"],
         "prompt": [{"role": "user", "content": f"how many dogs are {'there left of ' * (number % 2)}the cat"}],
         "chosen": [{"role": "assistant", "content": "two people"}],
         "rejected": [{"role": "assistant", "content": f"{'a red box ' * (number % 3)}above two dogs"}]}
        for number in range(12)
    ]  # fmt: skip
    rows[3]["images"] = []
    rows[4]["prompt"] = [*rows[0]["prompt"], *rows[1]["chosen"], {"role": "user", "content": "yes"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = base.stages[0].model_dump() | {
        "name": "prefer", "data": str(tmp_path / "pairs.jsonl"), "template": None, "trains": ["lora"], "loss": "dpo",
        "beta": 0.3, "lora": {"rank": 2, "alpha": 8, "dropout": 0.3}, "epochs": 3, "log_every": 1,
        "learning_rate": 3e-2,
    }  # fmt: skip
    return Recipe.model_validate(base.model_dump() | {"stages": [stage]})


@pytest.fixture(scope="session")
def finished(make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """An uninterrupted run."""
    recipe, out = make_recipe(), tmp_path_factory.mktemp("finished") / "run"
    assert train(recipe, out) == out / "tune"
    return recipe, out


def _record(index: int, image: str, turns: list[str]) -> dict[str, Any]:
    spoken = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]
    return {"id": str(index), "image": image, "conversations": spoken}

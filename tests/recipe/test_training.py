from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from vistune.errors import RecipeError
from vistune.recipe import schema
from vistune.recipe.training import DataRecipe, LoraRecipe, Recipe

RECIPES = Path(__file__).parents[2] / "recipes"

MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "model": {"vision_tower": "mini", "language_model": "mini", "projector": "linear"},
    "stages": [
        {"name": name, "data": "a.json", "images": "a", "trains": ["projector"], "epochs": 1, "batch_size": 4,
         "micro_batch_size": 2, "learning_rate": 1e-3}
        for name in ("align", "tune")
    ],
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    return file


def test_every_recipe_loads_and_names_templates_that_are_there() -> None:
    templates = resources.files("vistune.data") / "templates"
    for file in RECIPES.glob("*.yaml"):
        recipe = schema.load(Recipe, file)
        assert recipe.name == file.stem
        named = [recipe.model.chat_template if recipe.model else None, *(stage.template for stage in recipe.stages)]
        assert all((templates / f"{name}.jinja").is_file() for name in named if name), file


V1 = ("linear", "crop", [(128, 2e-3, 1), (32, 2e-5, 3)])
V1_5 = ("mlp2x_gelu", "pad", [(256, 1e-3, 1), (128, 2e-5, 1)])
V1_5_LORA = ("mlp2x_gelu", "pad", [(256, 1e-3, 1), (128, 2e-4, 1)])
PUBLISHED: dict[str, tuple[str, str, list[tuple[int, float, float]]]] = {
    "llava-v1-7b": V1, "llava-v1-13b": V1, "llava-v1.5-7b": V1_5, "llava-v1.5-13b": V1_5,
    "llava-v1.5-7b-lora": V1_5_LORA, "llava-v1.5-7b-qlora": V1_5_LORA,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_recipes_have_the_papers_values(name: str) -> None:
    projector, aspect, stages = PUBLISHED[name]
    recipe = schema.load(Recipe, RECIPES / f"{name}.yaml")
    model = recipe.model
    assert model is not None
    assert (model.projector, model.image_aspect) == (projector, aspect)
    assert (model.feature_layer, model.feature_strategy) == (-2, None)  # none: CLIP's class token is dropped
    assert recipe.precision == "bf16"
    assert [(stage.batch_size, stage.learning_rate, stage.epochs) for stage in recipe.stages] == stages
    tuned = "lora" if "lora" in name else "language"
    assert [stage.trains for stage in recipe.stages] == [["projector"], ["projector", tuned]]
    assert [stage.template for stage in recipe.stages] == ["plain", None]
    for stage in recipe.stages:
        assert (stage.warmup_ratio, stage.weight_decay, stage.max_length) == (0.03, 0.0, 2048)
    version, size = ("1.5", "-336") if "v1.5" in name else ("1.3", "")
    assert model.vision_tower == f"openai/clip-vit-large-patch14{size}"
    assert model.language_model == f"lmsys/vicuna-{'13b' if '13b' in name else '7b'}-v{version}"


@pytest.mark.parametrize(("name", "quantize"), [("llava-v1.5-7b-lora", None), ("llava-v1.5-7b-qlora", "nf4")])
def test_adapters_have_the_papers_values(name: str, quantize: str | None) -> None:
    tune = schema.load(Recipe, RECIPES / f"{name}.yaml").stages[1]
    assert tune.lora == LoraRecipe(rank=128, alpha=256, dropout=0.05, quantize=quantize)  # type: ignore[arg-type]
    assert tune.learning_rates == {"projector": 2e-5}
    assert LoraRecipe() == LoraRecipe(rank=128, alpha=256, dropout=0.05, targets=None)


def test_scienceqa_goes_on_from_the_first_stage_of_v1() -> None:
    recipe = schema.load(Recipe, Path("scienceqa"))
    [tune] = recipe.stages
    assert recipe.start == "runs/llava-v1-13b/align"
    assert schema.load(Recipe, Path("llava-v1-13b")).stages[0].name == "align"
    assert (tune.batch_size, tune.learning_rate, tune.epochs, tune.trains) == (128, 2e-5, 12, ["projector", "language"])


def test_a_recipe_of_ours_is_found_by_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schema.load(Recipe, Path("llava-v1.5-7b")) == schema.load(Recipe, RECIPES / "llava-v1.5-7b.yaml")
    with pytest.raises(
        RecipeError, match=r"llava-v1.5-8b: there is no such recipe\n  fix: did you mean 'llava-v1.5-7b'"
    ):
        schema.load(Recipe, Path("llava-v1.5-8b"))
    monkeypatch.chdir(path.parent)
    path.rename("mini")
    assert schema.load(Recipe, Path("mini")).name == "tiny"  # a file of that name comes first


def test_overrides_name_a_stage_and_read_values_by_the_keys_type(path: Path) -> None:
    recipe = schema.load(Recipe,
        path,
        ["stages.tune.data=007", "stages.tune.learning_rate=2e-5", "seed=3", "stages.align.trains=[projector, vision]",
         "model.chat_template=null", "stages.align.images=a=b", "stages.tune.trains=[lora]",
         "stages.tune.lora={rank: 8}", "stages.tune.lora.dropout=0"],
    )  # fmt: skip
    align, tune = recipe.stages
    assert (align.data, tune.data, tune.learning_rate, recipe.seed) == ("a.json", "007", 2e-5, 3)
    assert tune.lora == LoraRecipe(rank=8, dropout=0)
    assert (align.trains, recipe.model.chat_template, align.images) == (["projector", "vision"], None, "a=b")


def test_data_is_a_file_or_a_mixture(path: Path) -> None:
    mixture = "stages.tune.data=[{path: b.jsonl}, {path: 'hub:c/d', images: e, weight: 0.5, split: test}]"
    align, tune = schema.load(Recipe, path, [mixture, "stages.align.images=null"]).stages
    assert align.sources() == [DataRecipe(path="a.json")]
    assert [(one.images, one.weight, one.path, one.split) for one in tune.sources()] == [
        ("a", 1, "b.jsonl", None), ("e", 0.5, "hub:c/d", "test")
    ]  # fmt: skip


def test_a_saved_recipe_reads_back_equal(path: Path, tmp_path: Path) -> None:
    recipe = schema.load(Recipe, path, ["stages.tune.epochs=0.5", "stages.tune.data=[{path: b}, {path: c, weight: 2}]"])
    schema.save(recipe, tmp_path / "again.yaml")
    assert schema.load(Recipe, tmp_path / "again.yaml") == recipe


def broken(change: dict[str, Any], *at: str | int) -> str:
    content = yaml.safe_load(yaml.safe_dump(MINIMAL))
    target = content
    for key in at:
        target = target[key]
    target.update(change)
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        (broken({"lerning_rate": 1}, "stages", 1), "stages.tune.lerning_rate", "did you mean 'learning_rate'?"),
        (broken({"stage": 1}), "stage", "did you mean 'stages'?"),
        (broken({"vision": "x"}, "model"), "model.vision", "did you mean 'vision_tower'?"),
        (broken({"trains": ["all"]}, "stages", 0), "stages.align.trains.0", "'vision' or 'lora' (it is"),
        (broken({"trains": []}, "stages", 0), "stages.align.trains", "at least 1 item"),
        (broken({"batch_size": 3}, "stages", 0), "stages.align", "batch_size 3 is no multiple of micro_batch_size 2"),
        (broken({"learning_rate": 0}, "stages", 0), "stages.align.learning_rate", "greater than 0 (it is 0)"),
        (broken({"learning_rate": float("nan")}, "stages", 0), "stages.align.learning_rate", "finite number"),
        (broken({"lora": {"rank": 4}}, "stages", 0), "stages.align: ", "does not train it: add it to `trains`"),
        (
            broken({"learning_rates": {"vision": 1}}, "stages", 0),
            "stages.align: ",
            "a learning rate of vision but does",
        ),
        (broken({"trains": ["lora", "language"]}, "stages", 0), "stages.align: ", "either `lora` or the whole `lang"),
        (broken({"save": "trained", "trains": ["vision"]}, "stages", 0), "stages.align: ", "projector and lora only"),
        (broken({"lora": {"rnk": 4}}, "stages", 0), "stages.align.lora.rnk", "did you mean 'rank'?"),
        (broken({"lora": {"dropout": 1}}, "stages", 0), "stages.align.lora.dropout", "less than 1 (it is 1)"),
        (broken({"epochs": "many"}, "stages", 0), "stages.align.epochs", "(it is 'many')"),
        (broken({"data": [{"path": "a", "weigth": 1}]}, "stages", 1), "stages.tune.data.0.weigth", "'weight'?"),
        (broken({"data": [{"path": "a"}, {}]}, "stages", 1), "stages.tune.data.1.path", "missing\n  fix: File or"),
        (broken({"data": [{"path": "a", "weight": 0}]}, "stages", 1), "stages.tune.data.0.weight", "greater than 0"),
        (broken({"data": []}, "stages", 1), "stages.tune.data", "at least 1 item"),
        (broken({"data": 3}, "stages", 1), "stages.tune.data", "a valid string"),
        (broken({"name": "tune"}, "stages", 0), "", "two stages have the same name"),
        (broken({"name": "a/b"}, "stages", 0), "stages.a/b.name", "match pattern"),
        (broken({"stages": []}), "stages", "at least 1 item"),
        ("name: [", "", "not valid YAML"),
        ("- a\n", "", "a recipe is a mapping"),
        ("", "", "a recipe is a mapping"),
        ("name: tiny\n", "stages", "this key is missing"),
        (broken({"start": "run/align"}), "", "either `model`, what to assemble, or `start`, a checkpoint"),
        (broken({"model": None}), "", "either `model`, what to assemble, or `start`, a checkpoint"),
    ],
)
def test_a_mistake_is_one_message_with_file_and_key(tmp_path: Path, text: str, where: str, message: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        schema.load(Recipe, path)
    assert str(caught.value).startswith(f"{path}: {where}")
    assert message in str(caught.value)


def test_a_wrong_file(path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tinny.yaml: there is no such recipe\n  fix: did you mean '.*tiny.yaml'\?"):
        schema.load(Recipe, path.with_name("tinny.yaml"))
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        schema.load(Recipe, path.parent)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecipeError, match="not valid YAML"):
        schema.load(Recipe, path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.tun.data=x", "there is no 'tun'\n  fix: did you mean 'tune'?"),
        ("stages.tune.dta=x", "unknown key\n  fix: did you mean 'data'?"),
        ("stages.tune.epochs=x", "valid number"),
        ("seed", "no value is given"),
        ("stages.tune=x", "only"),
        ("modle.projector=linear", "did you mean 'model'?"),
        ("stages.tune.data.x=1", "only a single value"),
        ("stages.tune.trains=[", "not valid YAML"),
    ],
)
def test_a_wrong_override_names_itself(path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        schema.load(Recipe, path, [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert message in str(caught.value)


def test_every_key_is_described() -> None:
    text = schema.describe(Recipe)
    assert "stages.<name>.warmup_ratio (default: 0.03)" in text
    assert "None" not in [line.strip() for line in text.splitlines()]
    assert set(Recipe.model_fields) <= set(text.split())

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.cli import main
from vistune.errors import DataError, RecipeError
from vistune.evaluate.ablate import PAPER_MIXES, ablate, variants

ROOT = Path(__file__).parents[2]


def test_variants_of_the_command_line() -> None:
    assert [one.name for one in variants()] == list(PAPER_MIXES)
    assert variants()[2].kinds == {"conversation": 1.0, "detail": 0.05, "reasoning": 0.1}
    made = variants(fractions=[0.1], grid=["a=1,2", "b=3"], skip=["align"])
    assert [one.name for one in made] == ["all", "10 % of the data", "a=1, b=3", "a=2, b=3", "without align"]
    assert made[3].overrides == ("a=2", "b=3")
    with pytest.raises(RecipeError, match="'lots' is not a share"):
        variants(["detail=lots"])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> list[str]:
    """Changes of the mini recipe to tiny backbones and the data of eight images."""
    folder = tmp_path_factory.mktemp("ablation")
    sizes = ["--train", "8", "--val", "0", "--test", "3"]
    assert main(["demo-data", "--out", f"{folder}/emoji", *sizes]) == 0
    assert main(["generate", f"{folder}/emoji", "--out", f"{folder}/instruct"]) == 0
    return [
        f"model.vision_tower={backbones}/vision", f"model.language_model={backbones}/language",
        f"stages.align.data={folder}/instruct/align.json", f"stages.tune.data={folder}/instruct/instruct.json",
        *(f"stages.{stage}.{key}" for stage in ("align", "tune")
          for key in (f"images={folder}/emoji", "batch_size=4", "micro_batch_size=2", "epochs=0.5")),
        f"evaluation.data={folder}/emoji", "evaluation.benchmarks=[scene_qa]", "evaluation.limit=2",
    ]  # fmt: skip


def test_mixes_share_stage_1_and_are_compared(settings: list[str], tmp_path: Path) -> None:
    chosen = variants(["conversation=0.9", "none"])
    rows = ablate(ROOT / "recipes/mini.yaml", tmp_path, chosen, overrides=settings)
    assert [row.variant for row in rows] == ["all", "conversation=0.9", "none"]
    assert rows[0].conversations > rows[1].conversations > rows[2].conversations == 0
    assert not rows[0].differences
    for row in rows[1:]:
        gap = row.measures["scene_qa accuracy"].value - rows[0].measures["scene_qa accuracy"].value
        assert row.differences["scene_qa accuracy"].value == pytest.approx(gap)
    own = json.loads((tmp_path / "seed0/conversation=0.9/data/0.json").read_text())
    assert len(own) == rows[1].conversations
    assert all(row["id"].endswith("-conversation") for row in own)
    assert sorted(path.parent.name for path in tmp_path.rglob("model.safetensors")) == ["align", "tune", "tune"]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert ablate(ROOT / "recipes/mini.yaml", tmp_path, chosen, overrides=settings) == rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files


def test_mistakes_are_named(settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no kind 'conversatoin'\n.*did you mean 'conversation'"):
        ablate(ROOT / "recipes/mini.yaml", tmp_path, variants(["conversatoin"])[1:], overrides=settings)
    with pytest.raises(RecipeError, match="--skip alihn: there is no such stage\n  fix: did you mean 'align'"):
        ablate(ROOT / "recipes/mini.yaml", tmp_path, variants(skip=["alihn"]), overrides=settings)
    with pytest.raises(RecipeError, match="does not say what to evaluate"):
        ablate(ROOT / "recipes/mini.yaml", tmp_path, variants(), overrides=[*settings, "evaluation=null"])

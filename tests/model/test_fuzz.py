"""The files of checkpoints, adapters, backbones and GGUF models, spoilt: an assistant that answers, or an error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from assembling import assemble
from fuzzing import fuzz
from vistune.data.chat_template import checkpoint_template
from vistune.evaluate.models import open_model
from vistune.export.text_gguf import write_text_model
from vistune.model.adapter_checkpoint import Backbones, open_checkpoint, save_adapter_checkpoint
from vistune.model.adapters import add_lora
from vistune.model.assistant import Assistant
from vistune.model.backbones import load_language
from vistune.model.checkpoint import save_checkpoint
from vistune.recipe.training import LoraRecipe, ModelRecipe

PICTURE = Image.new("RGB", (30, 20), "red")


@pytest.fixture(scope="module")
def checkpoint(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tuned"
    save_checkpoint(*assemble(str(backbones / "vision"), str(backbones / "language"), projector="linear"), path)
    return path


def files_of(folder: Path, *but: str) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name not in ("manifest.json", "README.md", *but))


def answer(path: Path) -> None:
    Assistant.load(path, "cpu").chat(PICTURE, "how many dogs", max_new_tokens=2)


def test_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoint, tmp_path / "tuned"))
    fuzz(files_of(path), lambda: answer(path), 20)


def test_sharded_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoint, tmp_path / "tuned"))
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").rename(path / "model-00001-of-00001.safetensors")
    index = path / "model.safetensors.index.json"
    names = dict.fromkeys(weights, "model-00001-of-00001.safetensors")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    fuzz([index], lambda: open_checkpoint(path), 10)


@pytest.mark.parametrize("lora", [False, True])
def test_adapter_checkpoints(lora: bool, backbones: Path, tmp_path: Path) -> None:
    recipe = {"vision_tower": str(backbones / "vision"), "language_model": str(backbones / "language")}
    base = Backbones(ModelRecipe.model_validate({**recipe, "projector": "linear"}), seed=3)
    model, _ = base.assemble()
    if lora:
        add_lora(model, LoraRecipe(rank=4, alpha=16, dropout=0), seed=0)
    save_adapter_checkpoint(model, tmp_path / "adapters", base)
    fuzz(files_of(tmp_path / "adapters"), lambda: answer(tmp_path / "adapters"), 10)


@pytest.mark.parametrize("part", ["vision", "language"])
def test_backbones(part: str, backbones: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(backbones / part, tmp_path / part))
    places = {"vision": backbones / "vision", "language": backbones / "language", part: path}
    fuzz(files_of(path), lambda: assemble(*map(str, places.values()), projector="linear"), 10)


def test_gguf_models(checkpoint: Path, tmp_path: Path) -> None:
    model, processor = open_checkpoint(checkpoint)
    path = tmp_path / "model.gguf"
    write_text_model(model, processor.tokenizer, checkpoint_template(processor), path, "f32")
    fuzz([path], lambda: load_language(str(path)), 20)


def test_other_models_of_transformers(checkpoint: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    from vistune.evaluate.models import Prompt

    def ask() -> None:
        model = open_model(f"hf:{path}")
        dict(model.answers([Prompt((PICTURE,), "how many", "question 1")], max_new_tokens=2, batch_size=1))

    fuzz(files_of(path), ask, 10)

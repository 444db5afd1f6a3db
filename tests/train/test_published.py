"""A LLaVA that others published, in llava-hf's layout: it answers as with transformers, and is tuned further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from published_llava import PUBLISHED, publish
from vistune.cli import main
from vistune.evaluate.models import open_model
from vistune.evaluate.models.answerer import Prompt
from vistune.model.assistant import Assistant
from vistune.recipe.training import Recipe
from vistune.train.run import train

QUESTIONS = ("how many dogs", "what is left of the cat", "a red box yes")


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request: Any, backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's cache with `owner/llava`."""
    cache = tmp_path_factory.mktemp("hub")
    publish(backbones, cache, request.param)
    return cache


@pytest.fixture(autouse=True)
def hub(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(published))


def theirs(folder: Path, picture: Image.Image) -> list[str]:
    """Greedy answers of transformers' own classes and template."""
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    answers = []
    for question in QUESTIONS:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(images=picture, text=text, return_tensors="pt")
        written = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        answers.append(processor.decode(written, skip_special_tokens=True).strip())
    return answers


def test_it_answers_as_with_transformers(published: Path, tmp_path: Path) -> None:
    picture = Image.effect_noise((60, 40), 90).convert("RGB")
    picture.save(tmp_path / "a.png")
    wanted = theirs(next(published.glob("*/snapshots/1")), picture)
    assert (
        Assistant.load("owner/llava", "cpu").answer([(picture, one) for one in QUESTIONS], max_new_tokens=12) == wanted
    )
    model = open_model("owner/llava", device="cpu")
    prompts = [Prompt((tmp_path / "a.png",), one) for one in QUESTIONS]
    assert [text for _, text in sorted(model.answers(prompts, max_new_tokens=12, batch_size=8))] == wanted
    assert model.name == "owner/llava"


def test_it_is_tuned_by_its_id_and_learns_where_answers_end(make_recipe: Any, tmp_path: Path) -> None:
    tune = make_recipe(epochs=30).stages[1]
    recipe = Recipe.model_validate({"name": "own", "start": "owner/llava", "stages": [tune.model_dump()]})
    trained = train(recipe, tmp_path / "run")
    record = json.loads(Path(str(tune.data)).read_text())[0]
    picture = Image.open(Path(str(tune.images)) / record["image"]).convert("RGB")
    question, answer = (turn["value"] for turn in record["conversations"][:2])
    said = Assistant.load(trained, "cpu").chat(picture, question.removeprefix("<image>\n"), max_new_tokens=40)
    assert said == answer  # and not a word after it
    processor: Any = AutoProcessor.from_pretrained(trained, backend="pil")
    text = processor.apply_chat_template([{"role": "user", "content": "<image>\nhow"}], add_generation_prompt=True)
    ids = processor(images=picture, text=text)["input_ids"][0]
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_its_adapters_name_it_by_its_id(make_recipe: Any, tmp_path: Path) -> None:
    tune = make_recipe(epochs=1, trains=["projector", "lora"]).stages[1]
    recipe = Recipe.model_validate({"name": "own", "start": "owner/llava", "stages": [tune.model_dump()]})
    trained = train(recipe, tmp_path / "run")
    for name, key in (("base.json", "checkpoint"), ("adapter_config.json", "base_model_name_or_path")):
        assert json.loads((trained / "adapter" / name).read_text())[key] == "owner/llava"
    picture = Image.effect_noise((60, 40), 90).convert("RGB")
    said = [Assistant.load(one, "cpu").chat(picture, "how", max_new_tokens=9) for one in (trained, trained / "adapter")]
    assert said[0] == said[1]


def test_an_id_that_cannot_be_fetched_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.jsonl").write_text('{"image": "a.png", "question": "q", "answer": "a"}\n')
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert main(["eval", "owner/other", "--questions", f"{tmp_path}/q.jsonl", "--out", f"{tmp_path}/out"]) == 2
    error = capsys.readouterr().err
    assert "owner/other: there is no such folder, and the hub cannot be read" in error

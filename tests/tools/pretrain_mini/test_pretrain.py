"""The backbones' training in small: it learns, it is reproducible, and what it saves is what models load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPImageProcessorPil, CLIPVisionModel

from tools.pretrain_mini.corpus import checklist, document
from tools.pretrain_mini.language import Lesson, continue_language, train_language
from tools.pretrain_mini.places import teach_places
from tools.pretrain_mini.practice import practice
from tools.pretrain_mini.probe import probe_language
from tools.pretrain_mini.vision import (
    SIDE,
    MiniCLIP,
    caption_tokenizer,
    center_cell,
    normalize,
    patch_targets,
    phrases,
    places,
    train_vision,
)  # fmt: skip
from vistune.demo.dataset import draw
from vistune.demo.run import one_thread
from vistune.demo.scenes import sample_scene


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@one_thread()
def test_the_vision_tower_comes_out_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_vision(tmp_path / name, seed=3, count=32, steps=2, batch=8)
        teach_places(tmp_path / name, seed=4, count=32, steps=2, batch=8)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    tower = CLIPVisionModel.from_pretrained(tmp_path / "a", dtype=torch.float32)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path / "a")
    scene = sample_scene("train", 3, 0)
    pixels = processor(draw(scene, SIDE), return_tensors="pt")["pixel_values"]
    trained_on = normalize(np.asarray(draw(scene, SIDE))[None])
    assert torch.allclose(pixels, trained_on, atol=1e-5)
    assert tower(pixels).last_hidden_state.shape == (1, 65, 128)


def test_patch_targets_mark_every_object_once() -> None:
    for index in range(50):
        scene = sample_scene("train", 6, index)
        targets = patch_targets(scene)
        for box in scene.boxes:
            assert phrases()[targets.thing[center_cell(box)]].endswith(box.category)
        assert targets.share.sum() == pytest.approx(len(scene.boxes))
        assert (targets.thing == targets.ground)[targets.share == 0].all()


def test_the_text_tower_reads_the_whole_phrase() -> None:
    told = [*phrases(), *places()]
    tokenizer = caption_tokenizer(["two dogs and three cats"] * 100 + told)
    vectors = MiniCLIP(tokenizer.get_vocab_size()).embed(tokenizer, told)
    assert len({tuple(vector.tolist()) for vector in vectors}) == len(told)


@one_thread()
def test_the_language_model_learns_and_comes_out_the_same_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons = [Lesson(checklist, 2, 4), Lesson(document, 1, 4)]
    for name in ("a", "b"):
        train_language(tmp_path / name, seed=3, lessons=lessons, tokenizer_documents=100)
        continue_language(tmp_path / name, Lesson(practice, 2, 4), seed=4, lr=1e-3, blurred=0.5, attention="eager")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert "language 3/3" in (printed := capsys.readouterr().out)
    assert "language 2/2" in printed
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)["input_ids"]
    assert tokenizer.decode(ids) == "<s><|user|>Hi<|end|><|assistant|>"
    assert model(torch.tensor([ids])).logits.isfinite().all()
    measured = probe_language(tmp_path / "a", scenes=2)
    assert measured["accuracy"].n > 5

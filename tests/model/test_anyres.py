"""Tiles (anyres): transformers' own `LlavaNextForConditionalGeneration`, with our savings and the same results."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoProcessor, CLIPVisionConfig, CLIPVisionModel, LlavaNextForConditionalGeneration

from assembling import assemble
from vistune.data.collate import collate
from vistune.data.encode import Encoder
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore, read_image
from vistune.errors import CheckpointError, RecipeError
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import load_checkpoint, save_checkpoint
from vistune.model.vision import image_grid
from vistune.records import Conversation, Turn
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

SIZES = {"a": (60, 40), "b": (40, 61), "c": (33, 33), "d": (150, 20), "e": (9, 200), "f": (300, 1)}
"""Width and height: every grid of tiles, unpadded in either direction, and one without a row that is not padding."""


@pytest.fixture(scope="module")
def parts(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A tower of 4 x 4 patches, and a language model."""
    folder = tmp_path_factory.mktemp("tower")
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7,
        initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(1)
    CLIPVisionModel(config).save_pretrained(folder)
    shutil.copy(backbones / "vision" / "preprocessor_config.json", folder)
    return str(folder), str(backbones / "language")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = random.Random(0)
    for name, (width, height) in SIZES.items():
        Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height)).save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in SIZES}


@pytest.fixture
def made(parts: tuple[str, str]) -> tuple[Any, Any]:
    return assemble(*parts, projector="mlp2x_gelu", image_aspect="anyres")


def _conversations(pictures: dict[str, str]) -> list[Conversation]:
    """Several about an image and one about several, of different sizes; and one about none."""
    told = [
        ("a", "<image>\nhow many dogs", "two", "left of what", "the cat"), ("a", "<image>\nwhat is in this", "a box"),
        ("b", "what is this\n<image>", "a red box"), ("c", "<image>\nis it", "no"), ("c", "<image>\nis it red", "yes"),
        ("d", "<image>\nhow many", "no"), ("e", "<image>\nhow many", "two"), ("f", "<image>\nhow many", "two no"),
        ("ab", "<image> left of\n<image>", "the box", "and", "no"), ("ad", "<image> left of\n<image>", "no"),
        ("", "how many cats are there", "two", "and dogs", "no"), ("eca", "<image>", "no", "<image> or <image>", "no"),
    ]  # fmt: skip
    roles: Any = ("user", "assistant")
    return [
        Conversation(
            str(i),
            tuple(Turn(roles[j % 2], text) for j, text in enumerate(texts)),
            tuple(pictures[name] for name in names),
        )
        for i, (names, *texts) in enumerate(told)
    ]


def _theirs(model: Any, processor: Any, samples: list[Any]) -> Tensor:
    """The loss by transformers' own processor and forward, one conversation a row, padded."""
    model.set_attn_implementation("eager")
    images = [Image.open(name) for sample in samples for name in sample.images]
    ids = [torch.from_numpy(sample.input_ids).long() for sample in samples]
    targets = [torch.from_numpy(sample.targets) for sample in samples]
    logits = model(
        input_ids=pad_sequence(ids, batch_first=True),
        attention_mask=pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        **processor.image_processor(images, return_tensors="pt"),
    ).logits
    rows = zip(logits, ids, targets, strict=True)
    return sum(F.cross_entropy(row[: len(i) - 1][t[1:]], i[1:][t[1:]], reduction="sum") for row, i, t in rows)  # type: ignore[return-value]


def _gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_loss_and_gradients_are_the_plain_forwards(made: tuple[Any, Any], pictures: dict[str, str]) -> None:
    model, processor = made
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    samples = [encoder.encode(one, 900, lambda name: Image.open(name).size) for one in _conversations(pictures)]
    assert len({len(tokens) for sample in samples for tokens in sample.image_tokens}) == len(SIZES)
    freeze(model, ["projector", "language", "vision"])
    store = ImageStore(lambda name: read_image(Path(name)), processor.image_processor)
    ours = TargetLoss(model)(collate(make_groups(samples), store.get))
    mine = _gradients(model, ours)
    theirs = _theirs(model, processor, samples)
    reference = _gradients(model, theirs)
    assert abs(ours - theirs) / theirs < 1e-5
    assert mine.keys() == reference.keys() >= {"model.image_newline"}
    whole = sum(value.square().sum() for value in reference.values()) ** 0.5
    for name, value in reference.items():
        assert (mine[name] - value).norm() / whole < 1e-5, name


@pytest.fixture(scope="module")
def checkpoint(parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anyres") / "checkpoint"
    save_checkpoint(*assemble(*parts, projector="mlp2x_gelu", image_aspect="anyres"), folder)
    return folder


def test_the_checkpoint_is_in_the_published_layout_and_loads_with_transformers(checkpoint: Path) -> None:
    theirs: Any = LlavaNextForConditionalGeneration
    _, report = theirs.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    names = {name.rpartition(".layers.")[0] or name for name in load_file(checkpoint / "model.safetensors")}
    assert {"image_newline", "vision_tower.vision_model.encoder", "language_model.model"} <= names
    model, processor = load_checkpoint(checkpoint)
    assert type(model).__name__ == "LlavaNextForConditionalGeneration"
    assert processor.image_processor.image_grid_pinpoints == [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]


def test_answers_are_those_of_transformers(checkpoint: Path, pictures: dict[str, str]) -> None:
    model: Any = LlavaNextForConditionalGeneration.from_pretrained(checkpoint)
    processor: Any = AutoProcessor.from_pretrained(checkpoint, backend="pil")
    questions = ("how many dogs", "what is left of the cat")
    prompts: list[Any] = [(name, text) for name in pictures.values() for text in questions]
    prompts.append(([pictures["a"], pictures["d"]], "what is in this"))
    wanted = []
    for names, text in prompts:
        images = [Image.open(name) for name in ([names] if isinstance(names, str) else names)]
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(images=images, text=prompt, add_special_tokens=False, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        wanted.append(processor.decode(tokens, skip_special_tokens=True).strip())
    assistant = Assistant.load(checkpoint, "cpu")
    assert assistant.answer(prompts, max_new_tokens=10) == wanted
    assert len(set(wanted)) > len(SIZES)


def test_grids_are_of_whole_tiles_and_agree(parts: tuple[str, str], checkpoint: Path, tmp_path: Path) -> None:
    model, _ = assemble(*parts, projector="linear", image_aspect="anyres", image_grid_pinpoints=[(56, 84)])
    assert len(image_grid(model.config).tokens(lambda: (84, 56))) == 4 * 4 + 8 * (12 + 1)
    with pytest.raises(RecipeError, match=r"\[28, 50\] is no grid of tiles of 28 x 28 pixels"):
        assemble(*parts, projector="linear", image_aspect="anyres", image_grid_pinpoints=[(28, 50)])
    shutil.copytree(checkpoint, tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_grid_pinpoints": [[28, 56]]}))
    with pytest.raises(CheckpointError, match="image_grid_pinpoints differ"):
        load_checkpoint(tmp_path / "other")

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vistune.data.dataset import Dataset, open_sources
from vistune.data.encode import Encoder
from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageStore, square_processor
from vistune.data.loader import Loader, Step
from vistune.errors import DataError
from vistune.recipe.training import DataRecipe

IMAGES = 8


def row(number: int, answer: str = "a red box", image: str | None = None) -> dict[str, Any]:
    name = image or f"{number % IMAGES}.png"
    told = [{"from": "human", "value": f"<image>\nhow many {number}"}, {"from": "gpt", "value": answer}]
    return {"id": f"c{number}", "image": name, "conversations": told}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes rows to a file; returns it as a recipe has it."""
    for number in range(IMAGES):
        Image.new("RGB", (28, 28), (number * 20, 0, 0)).save(tmp_path / f"{number}.png")

    def write_(rows: list[dict[str, Any]], name: str = "x", **keys: Any) -> DataRecipe:
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        return DataRecipe(path=f"{tmp_path}/{name}.json", images=str(tmp_path), **keys)

    return write_


@pytest.fixture(scope="module")
def encoder(backbones: Path) -> Encoder:
    from assembling import assemble

    _, processor = assemble(f"{backbones}/vision", f"{backbones}/language", projector="linear")
    return Encoder(processor.tokenizer, str(processor.chat_template), ImageGrid(4))


def steps(dataset: Dataset, start: int = 0, stop: int = 6, **options: Any) -> list[Step]:
    processor = square_processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 28, "stretch")
    settings = {"batch_size": 6, "micro_batch_size": 2, "seed": 0, "output": print, **options}
    return list(Loader(dataset, ImageStore(dataset.image, processor), **settings).steps(start, stop))


def same(some: list[Step], others: list[Step]) -> bool:
    pairs = [(a, b) for one, other in zip(some, others, strict=True)
             for a, b in zip(one.micro_batches, other.micro_batches, strict=True)]  # fmt: skip
    return all(
        torch.equal(a.input_ids, b.input_ids) and torch.equal(a.targets, b.targets)
        and torch.equal(a.pixel_values, b.pixel_values)
        for a, b in pairs
    ) and [step.targets for step in some] == [step.targets for step in others]  # fmt: skip


def test_encoded_ahead_or_as_needed_the_batches_are_the_same(write: Any, encoder: Encoder) -> None:
    sources = open_sources([write([row(i) for i in range(30)]), write([row(i) for i in range(5)], "y", weight=1.4)])
    ahead, lazy = Dataset(sources, encoder, 500), Dataset(sources, encoder, 500, ahead=10)
    assert len(ahead) == len(lazy) == 35
    assert same(steps(ahead), steps(lazy))
    assert same(steps(lazy)[4:], steps(lazy, 4))
    assert len(ahead.summary()) == 0


def test_what_cannot_be_used_is_named_left_out_and_replaced(
    write: Any, encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(i, "a red box" if i % 3 else "yes " * 200) for i in range(60)]
    sources = open_sources([write(rows)])
    ahead = Dataset(sources, encoder, 100)
    assert len(ahead) == 40
    assert ahead.summary() == ["20 conversations left out: they cannot be used"]
    told = capsys.readouterr().out
    assert told.count("left out: ") == 5
    assert "x.json: conversation c0: its first answer does not fit in 100 tokens" in told
    lazy = Dataset(sources, encoder, 100, ahead=10)
    assert len(lazy) == 60
    run = steps(lazy, 0, 10)
    assert all(step.targets == 6 * ahead.preview[0].targets.sum() for step in run)
    assert same(run[7:], steps(Dataset(sources, encoder, 100, ahead=10), 7, 10))
    with pytest.raises(DataError, match=r"x\.json: conversation c0: its first answer does not fit in 10"):
        Dataset(sources, encoder, 10)
    with pytest.raises(DataError, match=r"x\.json: conversation c\d+: its first answer does not fit in 10"):
        Dataset(sources, encoder, 10, ahead=10)


def test_turns_that_do_not_fit_are_counted_once(write: Any, encoder: Encoder) -> None:
    long = row(0)
    long["conversations"] += [{"from": "human", "value": "how " * 90}, {"from": "gpt", "value": "a"}]
    sources = open_sources([write([long, row(1)])])
    assert Dataset(sources, encoder, 80).summary() == ["2 turns left out: longer than 80 tokens"]


def test_an_image_that_cannot_be_read_is_named_and_not_learned_from(
    write: Any, encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(i, image="bad.png" if i == 3 else None) for i in range(6)]
    (tmp_path / "bad.png").write_bytes(b"no image")
    (step,) = steps(Dataset(open_sources([write(rows)]), encoder, 500), 0, 1)
    assert "bad.png: the image cannot be read: not in a known format" in capsys.readouterr().out
    learned = sum(len(batch.targets) for batch in step.micro_batches)
    assert learned == step.targets * 5 // 6
    assert any((batch.pixel_values == 0).all(dim=(1, 2, 3)).any() for batch in step.micro_batches)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_too_many_unreadable_images_are_an_error(count: int, write: Any, encoder: Encoder, tmp_path: Path) -> None:
    for number in range(count):
        (tmp_path / f"bad{number}.png").write_bytes(b"")
    dataset = Dataset(open_sources([write([row(i, image=f"bad{i}.png") for i in range(count)])]), encoder, 500)
    with pytest.raises(DataError, match=r"images cannot be read, among them .*bad"):
        steps(dataset)


def test_the_fingerprint_is_of_texts_images_encoding_and_weights(write: Any, encoder: Encoder) -> None:
    def of(rows: list[dict[str, Any]], length: int = 500, **keys: Any) -> str:
        return Dataset(open_sources([write(rows, **keys)]), encoder, length, ahead=1).fingerprint()

    rows = [row(i) for i in range(4)]
    assert of(rows) == of(rows)
    others = [of([*rows[:3], row(3, "yes")]), of([*rows[:3], row(3, image="0.png")]), of(rows, weight=2), of(rows[:1])]
    assert len({of(rows), *others}) == 5


def test_processes_share_a_step_between_them(write: Any, encoder: Encoder) -> None:
    dataset = Dataset(open_sources([write([row(i) for i in range(30)])]), encoder, 500)
    alone = steps(dataset)
    shares = [steps(dataset, rank=rank, world=2) for rank in (0, 1)]
    for step, first, second in zip(alone, *shares, strict=True):
        learned = [sum(len(batch.targets) for batch in share.micro_batches) for share in (step, first, second)]
        assert learned[0] == learned[1] + learned[2] == step.targets == first.targets == second.targets


def test_a_system_message_is_encoded_and_never_a_target(write: Any, encoder: Encoder) -> None:
    plain = row(0)
    told = [{"from": "system", "value": "two people"}, *plain["conversations"]]
    long = [*told, {"from": "human", "value": "how " * 90}, {"from": "gpt", "value": "a"}]
    rows = [
        plain,
        {**plain, "conversations": told},
        {**plain, "conversations": long},
        {**plain, "system": "two people"},
    ]
    without, with_, cut, keyed = Dataset(open_sources([write(rows)]), encoder, 100).preview
    assert keyed.input_ids.tolist() == with_.input_ids.tolist()
    assert len(with_.input_ids) > len(without.input_ids)
    assert with_.targets.sum() == without.targets.sum()
    assert cut.input_ids.tolist() == with_.input_ids.tolist()
    with pytest.raises(DataError, match="its first answer does not fit"):
        Dataset(open_sources([write(rows[1:])]), encoder, 12)

"""The corpus of the mini LM is true, of training scenes only, and tokenised as prompts are."""

from __future__ import annotations

import random
from typing import Literal

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tools.pretrain_mini.corpus import ASSISTANT, END, USER, Document, document, raster, training_scene
from tools.pretrain_mini.language import collate, encode, train_tokenizer
from tools.pretrain_mini.vision import center_cell
from vistune.demo.dataset import captions
from vistune.demo.scenes import Scene, is_novel, sample_scene
from vistune.scene.english import NUMBERS
from vistune.scene.facts import RELATIONS, counts, holds, only, position

DOCUMENTS = 600


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [document(5, index) for index in range(DOCUMENTS)]


@pytest.fixture(scope="module")
def tokenizer(documents: list[Document]) -> PreTrainedTokenizerFast:
    return train_tokenizer(one.text for one in documents)


def scene_of(index: int) -> Scene:
    return training_scene(5, index // 4)


def test_the_cells_tell_what_is_where() -> None:
    for index in range(50):
        scene = sample_scene("train", 1, index)
        cells = raster(scene)
        assert [set(cell) & set("ABCDEFGH12345678") for cell in cells] == [
            {column, row} for row in "12345678" for column in "ABCDEFGH"
        ]
        for name, n in counts(scene.boxes).items():
            assert sum(cell.get(name, 0) for cell in cells) == pytest.approx(n)
        for box in scene.boxes:
            assert cells[center_cell(box)][box.category] >= 0.25  # at a corner four cells share
        for cell in cells:
            grounds = [weight for word, weight in cell.items() if word in scene.background.colors]
            things = [weight for word, weight in cell.items() if word in counts(scene.boxes)]
            assert sum(grounds + things) == pytest.approx(1)


def test_training_scenes_hold_nothing_that_is_set_apart() -> None:
    assert not any(is_novel(scene_of(index).boxes) for index in range(0, DOCUMENTS, 4))


def test_captions_name_all_there_is_in_five_ways() -> None:
    for index in range(50):
        scene = sample_scene("train", 1, index)
        told = captions(scene, random.Random(index))
        assert len(told) == len(set(told)) == 5
        naming_all = [text for text in told if all(name.split()[0] in text.lower() for name in counts(scene.boxes))]
        assert len(naming_all) >= 4 or "person" in counts(scene.boxes) or "mouse" in counts(scene.boxes)


def test_checklists_are_true(documents: list[Document]) -> None:
    seen = set()
    for index, one in enumerate(documents):
        title = one.pieces[2][0].removesuffix(END + ASSISTANT).strip()
        boxes = scene_of(index).boxes
        found = counts(boxes)
        for (asked, _), (answer, _) in zip(one.pieces[3:-1:2], one.pieces[4::2], strict=False):
            thing, said = asked.strip(" :"), answer.strip(" .")
            if title == "Is it there?":
                assert said == ("yes" if thing in found else "no")
            elif title == "How many?":
                assert NUMBERS.index(said) == found[thing]
            elif title == "Where is it?" and thing in found:
                box = only(boxes, thing)
                assert box is not None
                assert said.endswith(f"the {position(box)}")
            elif title == "In which cell is it?" and thing in found:
                cells = sorted(center_cell(box) for box in boxes if box.category == thing)
                assert said == " and ".join(f"{'ABCDEFGH'[cell % 8]} {cell // 8 + 1}" for cell in cells)
            elif title == "What is in the cell?" and said != "nothing":
                column, row = thing.split()
                cell = "ABCDEFGH".index(column) + 8 * (int(row) - 1)
                assert any(box.category == said and center_cell(box) == cell for box in boxes)
            elif title == "What is beside it?" and said != "nothing":
                relation = next(name for name in RELATIONS if name in thing)
                other = only(boxes, thing.partition(relation)[2].strip())
                assert other is not None
                there = [box.category for box in boxes if box is not other and holds(relation, box, other)]
                assert there == [said]
            elif title in ("Is it so?", "Is it so, and why?"):
                relation = next(name for name in RELATIONS if name in thing)
                a, b = (part.strip().removesuffix(" to the") for part in thing.split(relation))
                first, second = only(boxes, a), only(boxes, b)
                assert first is not None
                assert second is not None
                assert said.split()[-1] == ("yes" if holds(relation, first, second) else "no")
            else:
                continue
            seen.add(title)
    assert len(seen) == 8


def test_pieces_are_tokenised_as_the_whole_text(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> None:
    for one in documents[:150]:
        sample = encode(tokenizer, one)
        around = one.text.partition("]\n")[2] if one.cells and USER in one.text else one.text
        ids = [token for token in sample.ids if token != -1]
        if USER in one.text:  # else a caption follows the cells at once, as it will an image
            assert ids[-len(tokenizer.encode(around, add_special_tokens=False)) :] == tokenizer.encode(
                around, add_special_tokens=False
            )
        assert len(sample.ids) == len(ids) + len(one.cells)
        learned = "".join(piece for piece, is_learned in one.pieces if is_learned)
        assert tokenizer.decode([label for label in sample.labels if label != -100]) == learned


def test_the_words_of_a_place_are_one_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in "ABCDEFGH12345678":
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cell_is_read_as_the_sum_of_its_words(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, side: Literal["left", "right"]
) -> None:
    table = torch.randn(len(tokenizer), 7, generator=torch.Generator().manual_seed(0))
    some = [document for document in documents[:20] if len(document.pieces) > 2]
    samples = [encode(tokenizer, one) for one in some]
    batch = collate(samples, tokenizer.pad_token_id, side=side)
    for one, sample, embeds, mask in zip(some, samples, batch.embed(table), batch.mask, strict=True):
        told = embeds[mask.bool()]
        assert len(told) == len(sample.ids)
        assert torch.equal(told[0], table[tokenizer.bos_token_id])
        for cell, vector in zip(one.cells, told[[token == -1 for token in sample.ids]], strict=True):
            words = [(tokenizer.encode(f" {word}", add_special_tokens=False), weight) for word, weight in cell.items()]
            expected = sum(weight * table[tokens].mean(0) for tokens, weight in words)
            assert torch.allclose(vector, expected, atol=1e-5)

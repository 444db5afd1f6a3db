"""What the mini LM reads is true, of training scenes only, and tokenised as it will be asked."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerFast

from vistune.facts import RELATIONS, counts, holds, only, position
from vistune.mini.captions import captions
from vistune.mini.corpus import ASSISTANT, END, USER, Document, document, raster
from vistune.mini.language import encode, train_tokenizer
from vistune.mini.scenes import Scene, is_novel, sample_scene
from vistune.mini.vision import center_cells
from vistune.words import NUMBERS

DOCUMENTS = 200


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [document(5, index) for index in range(DOCUMENTS)]


@pytest.fixture(scope="module")
def tokenizer(documents: list[Document]) -> PreTrainedTokenizerFast:
    return train_tokenizer(one.text for one in documents)


def scene_of(index: int) -> Scene:
    return sample_scene("train", 5, index // 4)


def test_a_raster_has_a_word_for_each_patch() -> None:
    for index in range(50):
        scene = sample_scene("train", 1, index)
        words = raster(scene).split()
        assert len(words) == 64
        for box in scene.boxes:
            assert {words[cell] for cell in center_cells(box)} == {box.category.split()[0]}
        marked = {cell for box in scene.boxes for cell in center_cells(box)}
        grounds = {word for cell, word in enumerate(words) if cell not in marked}
        assert grounds <= set(scene.background.colors)


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
        title = one.pieces[0][0].removesuffix(END + ASSISTANT).rpartition("\n")[2]
        boxes = scene_of(index).boxes
        found = counts(boxes)
        for (asked, _), (answer, _) in zip(one.pieces[1:-1:2], one.pieces[2::2], strict=False):
            thing, said = asked.strip(" :"), answer.strip(" .")
            if title == "Is it there?":
                assert said == ("yes" if thing in found else "no")
            elif title == "How many?":
                assert NUMBERS.index(said) == found[thing]
            elif title == "Where is it?" and thing in found:
                box = only(boxes, thing)
                assert box is not None
                assert said.endswith(f"the {position(box)}")
            elif title == "Is it so?":
                relation = next(name for name in RELATIONS if name in thing)
                a, b = (part.strip().removesuffix(" to the") for part in thing.split(relation))
                first, second = only(boxes, a), only(boxes, b)
                assert first is not None
                assert second is not None
                assert said == ("yes" if holds(relation, first, second) else "no")
            else:
                continue
            seen.add(title)
    assert len(seen) == 4


def test_pieces_are_tokenised_as_the_whole_text(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> None:
    for one in documents:
        ids, labels = encode(tokenizer, one)
        if USER in one.text:  # else a caption follows the raster at once, as it will an image
            assert ids == tokenizer.encode(one.text, add_special_tokens=False)
        learned = "".join(piece for piece, is_learned in one.pieces if is_learned)
        assert tokenizer.decode([label for label in labels if label != -100]) == learned


def test_a_raster_word_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    for index in range(20):
        assert len(tokenizer.encode(raster(sample_scene("train", 5, index)), add_special_tokens=False)) == 64

"""The last lesson of the miniature LM, on what it had learned least: counting, and naming the object at a place."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from tools.pretrain_mini.corpus import (
    BOS,
    CELLS,
    DESCRIBE,
    END,
    PLACE_WORDS,
    Document,
    checklist_of,
    dialogue,
    document,
    raster,
    training_scene,
)  # fmt: skip
from tools.pretrain_mini.vision import SIZES
from vistune.demo.dataset import captions
from vistune.demo.scenes import BACKGROUNDS, Scene, random_scene
from vistune.scene.wording import common_objects
from vistune.scene.writer import Pair, SceneWriter


@lru_cache(maxsize=1)
def practice_scene(seed: int, index: int) -> Scene:
    """A training scene; every second one has several objects of a category."""
    return _crowded_scene(seed, index) if index % 2 else training_scene(seed, index)


def _crowded_scene(seed: int, index: int) -> Scene:
    """A scene of three to six objects, in which one to four of a category are about equally frequent.

    Counting takes more practice than the data set's scenes give.
    """
    rng = random.Random(f"crowded/{seed}/{index}")
    return random_scene(rng, sizes=(0, 0, 20, 25, 25, 30), repeats=(35, 25, 22, 18), novel=False)


def practice(seed: int, index: int) -> Document:
    """The document number `index`; four in a row share a scene, every second one has loose cells."""
    scene = practice_scene(seed, index // 4)
    rng = random.Random(f"practice/{seed}/{index}")
    written = _document(scene, rng)
    return loosened(written, rng) if index % 2 else written


def _document(scene: Scene, rng: random.Random) -> Document:
    way = rng.random()
    texts = captions(scene, rng)
    if way < 0.08:
        return Document(((BOS, False), (CELLS, False), (rng.choice(texts) + END, True)), raster(scene))
    if way < 0.4:
        kinds = ("counts", "counts", "tally", "regions", "regions", "beside", "beside")
        return checklist_of(scene, rng, rng.choice(kinds))
    return dialogue(_pairs(SceneWriter(texts, scene.boxes, rng, common_objects()), rng), raster(scene))


def _pairs(writer: SceneWriter, rng: random.Random) -> list[Pair]:
    """Questions, most of them counts and names; no fact is asked for twice, as the second answer would be a copy."""
    ways: list[tuple[Callable[[], Pair | None], int]] = [
        (writer.count, 8), (writer.category, 7), (writer.neighbor, 6), (writer.position, 3), (writer.relation, 3),
        (writer.existence_yes, 1), (writer.existence_no, 2), (writer.size, 1),
    ]  # fmt: skip
    pairs: dict[tuple[str, ...], Pair] = {}
    for way in rng.sample([way for way, _ in ways], k=31, counts=[weight for _, weight in ways]):
        if pair := way():
            pairs.setdefault((way.__name__, *writer.named(pair)), pair)
    found = list(pairs.values())
    extra = rng.random()
    if extra < 0.15:
        found.insert(rng.randrange(len(found) + 1), (rng.choice(DESCRIBE), writer.description()))
    elif extra < 0.3:
        found.insert(rng.randrange(len(found) + 1), (extra >= 0.2 and writer.reasoning()) or writer.listing())
    return found


def loose_document(seed: int, index: int) -> Document:
    """A document; in every second one, place, size and background have random weights, as in a projector's features."""
    written = document(seed, index)
    return loosened(written, random.Random(f"loose/{seed}/{index}")) if index % 2 else written


def loosened(document: Document, rng: random.Random) -> Document:
    """The document with place, size and background of its cells each weighted by a random factor."""
    gains = {kind: rng.uniform(0, 1.5) for kind in ("place", "size", "ground")}
    kinds = dict.fromkeys(PLACE_WORDS, "place") | dict.fromkeys(SIZES, "size") | dict.fromkeys(BACKGROUNDS, "ground")
    cells = [
        {word: weight * gains.get(kinds.get(word, ""), 1.0) for word, weight in cell.items()} for cell in document.cells
    ]
    return Document(document.pieces, tuple(cells))

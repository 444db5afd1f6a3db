"""What the miniature LM reads: training scenes in text, and what can be said of them.

A scene is told as 64 words in raster order, the order a vision tower gives its features in (at an object's
centre the first word of its name, elsewhere the background's colour), or as the teacher's context of
captions and boxes. What is said of it: dialogues, descriptions, captions, and checklists. A checklist asks
for one fact after another in two or three words; it is where looking things up is learned first, long
before whole questions are understood.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vistune.clients.phrases import place, spoken
from vistune.clients.scene_writer import SceneWriter
from vistune.context import format_context
from vistune.facts import POSITIONS, RELATIONS, counts, holds, only, position
from vistune.mini.captions import captions
from vistune.mini.scenes import Scene, categories, sample_scene
from vistune.mini.vision import GRID, SIDE, center_cells
from vistune.records import Box, ImageRecord
from vistune.words import number

BOS, USER, ASSISTANT, END, PAD = "<s>", "<|user|>", "<|assistant|>", "<|end|>", "<pad>"

DESCRIBE = (
    "Please describe this image in detail.",
    "Describe the image.",
    "What is this picture about?",
    "Tell me everything about this scene.",
)


@dataclass(frozen=True, slots=True)
class Document:
    """Pieces of text in order, each with whether the LM is to learn to write it."""

    pieces: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece for piece, _ in self.pieces)


def raster(scene: Scene) -> str:
    """The scene as 64 words, row by row."""
    words = [scene.background.at((cell // GRID + 0.5) / GRID) for cell in range(GRID * GRID)]
    for box in scene.boxes:
        for cell in center_cells(box):
            words[cell] = box.category.split()[0]
    return "".join(f" {word}" for word in words)


def checklist(seed: int, index: int) -> Document:
    """The checklist number `index`, for the first lessons; four in a row are about the same scene."""
    return _checklist(_scene(seed, index // 4), random.Random(f"checklist/{seed}/{index}"))


def document(seed: int, index: int) -> Document:
    """The document number `index`; four in a row are about the same scene, which takes longer to make than to tell."""
    scene = _scene(seed, index // 4)
    rng = random.Random(f"document/{seed}/{index}")
    told = captions(scene, rng)
    writer = SceneWriter(told, scene.boxes, rng)
    way = rng.random()
    if way < 0.1:
        return Document(((BOS + raster(scene), False), (rng.choice(told) + END, True)))
    if way < 0.3:
        return _checklist(scene, rng)
    shown = raster(scene) if way < 0.95 else format_context(_record(scene, told))
    return _dialogue(shown, _pairs(writer, rng))


@lru_cache(maxsize=1)
def _scene(seed: int, index: int) -> Scene:
    return sample_scene("train", seed, index)


def _record(scene: Scene, told: tuple[str, ...]) -> ImageRecord:
    return ImageRecord("", Path(), SIDE, SIDE, told, scene.boxes)


def _pairs(writer: SceneWriter, rng: random.Random) -> list[tuple[str, str]]:
    pairs = writer.conversation(rng.randint(8, 14))
    way = rng.random()
    if way < 0.2:
        pairs.insert(rng.randrange(len(pairs)), (rng.choice(DESCRIBE), writer.description()))
    elif way < 0.3:
        pairs.insert(rng.randrange(len(pairs)), writer.reasoning())
    return pairs


def _dialogue(shown: str, pairs: list[tuple[str, str]]) -> Document:
    pieces = [(f"{BOS}{USER}{shown}\n", False)]
    for i, (question, answer) in enumerate(pairs):
        pieces.append((f"{USER if i else ''}{question}{END}{ASSISTANT}", False))
        pieces.append((answer + END, True))
    return Document(tuple(pieces))


def _checklist(scene: Scene, rng: random.Random) -> Document:
    """One kind of fact about many things: what is asked is given, what is found is learned."""
    title, entries = rng.choice((_presence, _counts, _places, _regions, _relations))(scene.boxes, rng)
    if not entries:  # a single object has no relations
        title, entries = _presence(scene.boxes, rng)
    pieces = [(f"{BOS}{USER}{raster(scene)}\n{title}{END}{ASSISTANT}", False)]
    for asked, found in entries:
        pieces += [(f" {asked}", False), (f" {found}.", True)]
    return Document((*pieces, (END, True)))


_Entries = tuple[str, list[tuple[str, str]]]


def _things(boxes: tuple[Box, ...], rng: random.Random, absent: int) -> list[str]:
    """All that is there and `absent` things that are not, mixed."""
    present = list(counts(boxes))
    others = rng.sample([name for name in categories() if name not in present], absent)
    return rng.sample(present + others, len(present) + absent)


def _presence(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    found = counts(boxes)
    names = _things(boxes, rng, len(counts(boxes)) + rng.randint(0, 2))
    return "Is it there?", [(name, "yes" if name in found else "no") for name in names]


def _counts(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    names = _things(boxes, rng, rng.randint(1, 5))
    return "How many?", [(name, number(counts(boxes)[name])) for name in names]


def _places(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    entries = []
    for name in _things(boxes, rng, rng.randint(1, 4)):
        box = only(boxes, name)
        where = position(box) if box else None
        if where or name not in counts(boxes):
            entries.append((name, place(where) if where else "nowhere"))
    return "Where is it?", entries


def _regions(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    where = [position(box) for box in boxes]
    entries = []
    for region in rng.sample(POSITIONS, len(POSITIONS)):
        there = [box.category for box, here in zip(boxes, where, strict=True) if here == region]
        if len(there) == 1 or (not there and None not in where):
            entries.append((place(region), there[0] if there else "nothing"))
    return "What is there?", entries


def _relations(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    unique = [box for name in counts(boxes) if (box := only(boxes, name))]
    pairs = [(a, b, relation) for a in unique for b in unique if a is not b for relation in RELATIONS]
    entries = []
    for a, b, relation in rng.sample(pairs, min(len(pairs), 24)):
        if (true := holds(relation, a, b)) is not None:
            entries.append((f"{a.category} {spoken(relation)} {b.category}", "yes" if true else "no"))
    return "Is it so?", entries

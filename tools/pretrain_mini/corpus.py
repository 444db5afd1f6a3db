"""The text corpus of the miniature LM: training scenes in words, and documents about them.

A scene is written as 64 cells in raster order, the order of a vision tower's features, or as the teacher's context of
captions and boxes. A cell is a few words at once, `small dog E 3`, whose embeddings are summed to one vector, as a
projector gives one vector for a patch. Documents are dialogues, descriptions, captions, and checklists. A checklist
lists one fact after another in two or three words: from these the model learns to look things up long before it
understands whole questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tools.pretrain_mini.vision import GRID, SIDE, center_cell, center_cells, row_colors, size_word
from vistune.demo.dataset import captions
from vistune.demo.scenes import BACKGROUNDS, Scene, categories, sample_scene
from vistune.records import Box, ImageRecord
from vistune.scene.context import format_context
from vistune.scene.english import number
from vistune.scene.facts import POSITIONS, RELATIONS, counts, holds, only, position
from vistune.scene.wording import common_objects, place, spoken
from vistune.scene.writer import Pair, SceneWriter

BOS, USER, ASSISTANT, END, PAD = "<s>", "<|user|>", "<|assistant|>", "<|end|>", "<pad>"
CELLS = "<cells>"

DESCRIBE = (
    "Please describe this image in detail.",
    "Describe the image.",
    "What is this picture about?",
    "Tell me everything about this scene.",
)


Cell = Mapping[str, float]
"""The words of one cell, each with its weight from zero to one."""


@dataclass(frozen=True, slots=True)
class Document:
    """Pieces of text in order, each with whether it is a target; `CELLS` marks the place of the cells."""

    pieces: tuple[tuple[str, bool], ...]
    cells: tuple[Cell, ...] = ()

    @property
    def text(self) -> str:
        """The whole text, the cells' words in brackets."""
        cells = "".join(f"[{''.join(f' {word}' for word in cell)}]" for cell in self.cells)
        return "".join(cells if piece == CELLS else piece for piece, _ in self.pieces)


PLACE_WORDS = "ABCDEFGH12345678"


def _place_words(cell: int) -> tuple[str, str]:
    """Column and row of a cell, as on a chessboard: `E`, `3`."""
    return PLACE_WORDS[cell % GRID], PLACE_WORDS[GRID + cell // GRID]


def raster(scene: Scene) -> tuple[Cell, ...]:
    """The scene as 64 cells, row by row: an object's words at its centre, elsewhere the background, and the place."""
    grounds = [color for color in row_colors(scene) for _ in range(GRID)]
    cells = [dict.fromkeys((ground, *_place_words(cell)), 1.0) for cell, ground in enumerate(grounds)]
    for box in scene.boxes:
        for cell, share in center_cells(box).items():
            words = {name: 1 - share if name in BACKGROUNDS else weight for name, weight in cells[cell].items()}
            size = size_word(box)
            cells[cell] = words | {box.category: share} | ({size: share} if size else {})
    return tuple(cells)


def short_checklist(seed: int, index: int) -> Document:
    """A checklist about a scene without most of its background cells, so that there is little to look through."""
    rng = random.Random(f"short/{seed}/{index}")
    return _checklist(training_scene(seed, index // 4), rng, grounds=2)


def checklist(seed: int, index: int) -> Document:
    """The checklist number `index`; four in a row share a scene, as drawing one takes longer than writing about it."""
    return _checklist(training_scene(seed, index // 4), random.Random(f"checklist/{seed}/{index}"))


def document(seed: int, index: int) -> Document:
    """The document number `index`, of any kind; four in a row are about the same scene."""
    scene = training_scene(seed, index // 4)
    rng = random.Random(f"document/{seed}/{index}")
    texts = captions(scene, rng)
    writer = SceneWriter(texts, scene.boxes, rng, common_objects())
    way = rng.random()
    if way < 0.1:
        return Document(((BOS, False), (CELLS, False), (rng.choice(texts) + END, True)), raster(scene))
    if way < 0.4:
        return _checklist(scene, rng)
    pairs = _pairs(writer, rng)
    return dialogue(pairs, raster(scene) if way < 0.95 else format_context(_record(scene, texts)))


@lru_cache(maxsize=1)
def training_scene(seed: int, index: int) -> Scene:
    """A training scene; every second is the one of three with most repeats, as counting takes more practice."""
    tries = 1 + 2 * (index % 2)
    scenes = [sample_scene("train", seed, 3 * index + i) for i in range(tries)]
    return max(scenes, key=lambda scene: len(scene.boxes) - len(counts(scene.boxes)))


def _record(scene: Scene, texts: tuple[str, ...]) -> ImageRecord:
    return ImageRecord("", Path(), SIDE, SIDE, texts, scene.boxes)


def _pairs(writer: SceneWriter, rng: random.Random) -> list[Pair]:
    pairs = _draw_pairs(writer, rng.randint(8, 14))
    way = rng.random()
    if way < 0.2:
        pairs.insert(rng.randrange(len(pairs)), (rng.choice(DESCRIBE), writer.description()))
    elif way < 0.3:
        pairs.insert(rng.randrange(len(pairs)), writer.reasoning() or writer.listing())
    return pairs


def _draw_pairs(writer: SceneWriter, limit: int) -> list[Pair]:
    """Up to `limit` different questions and answers of all types."""
    exact: list[Callable[[], Pair | None]] = [
        writer.existence_yes, writer.existence_no, writer.count, writer.position, writer.relation, writer.category,
    ]  # fmt: skip
    pool = [*exact, *exact, *exact, writer.neighbor, writer.size, writer.listing]
    pairs: dict[str, str] = {}
    for way in writer.rng.sample(pool, len(pool)):
        pair = way()
        if pair and len(pairs) < limit:
            pairs.setdefault(*pair)
    return list(pairs.items())


def dialogue(pairs: Sequence[tuple[str, str]], shown: str | tuple[Cell, ...]) -> Document:
    """Questions and answers about `shown`, a text or cells, which comes first."""
    text, cells = (shown, ()) if isinstance(shown, str) else (CELLS, shown)
    pieces = [(f"{BOS}{USER}", False), (text, False), ("\n", False)]
    for i, (question, answer) in enumerate(pairs):
        pieces.append((f"{USER if i else ''}{question}{END}{ASSISTANT}", False))
        pieces.append((answer + END, True))
    return Document(tuple(pieces), cells)


def _checklist(scene: Scene, rng: random.Random, grounds: int = GRID * GRID) -> Document:
    """One kind of fact about many things; the answers are the targets.

    Of the cells that show background only, at most `grounds` are written.
    """
    return _written(scene, rng, rng.choice(_KINDS), grounds)


def checklist_of(scene: Scene, rng: random.Random, kind: str) -> Document:
    """A checklist of that kind: `counts`, `tally`, `regions` or `beside`."""
    kinds = {"counts": _counts, "tally": _tally, "regions": _regions, "beside": _beside}
    return _written(scene, rng, kinds[kind])


def _written(
    scene: Scene,
    rng: random.Random,
    kind: Callable[[tuple[Box, ...], random.Random], _Entries],
    grounds: int = GRID * GRID,
) -> Document:
    title, entries = kind(scene.boxes, rng)
    if not entries:  # a single object has no relations
        title, entries = _presence(scene.boxes, rng)
    written = {cell for box in scene.boxes for cell in center_cells(box)}
    written.update(rng.sample(range(GRID * GRID), grounds))
    pieces = [(f"{BOS}{USER}", False), (CELLS, False), (f"\n{title}{END}{ASSISTANT}", False)]
    for entry, answer in entries:
        pieces += [(f" {entry}", False), (f" {answer}.", True)]
    cells = tuple(cell for i, cell in enumerate(raster(scene)) if i in written)
    return Document((*pieces, (END, True)), cells)


_Entries = tuple[str, list[tuple[str, str]]]


def _things(boxes: tuple[Box, ...], rng: random.Random, absent: int) -> list[str]:
    """All objects of the scene and `absent` categories without one, in random order."""
    present = list(counts(boxes))
    others = rng.sample([name for name in categories() if name not in present], absent)
    return rng.sample(present + others, len(present) + absent)


def _coordinates(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    entries = []
    for name in _things(boxes, rng, rng.randint(0, 3)):
        cells = sorted(center_cell(box) for box in boxes if box.category == name)
        entries.append((name, " and ".join(" ".join(_place_words(cell)) for cell in cells) or "nowhere"))
    return "In which cell is it?", entries


def _cells(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    found = {center_cell(box): box.category for box in boxes}
    cells = [*found, *rng.sample([cell for cell in range(GRID * GRID) if cell not in found], 3)]
    entries = [(" ".join(_place_words(cell)), found.get(cell, "nothing")) for cell in cells]
    return "What is in the cell?", rng.sample(entries, len(entries))


def _presence(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    found = counts(boxes)
    names = _things(boxes, rng, len(counts(boxes)) + rng.randint(0, 2))
    return "Is it there?", [(name, "yes" if name in found else "no") for name in names]


def _counts(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    names = _things(boxes, rng, rng.randint(0, 2))
    return "How many?", [(name, number(counts(boxes)[name])) for name in names]


def _tally(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    """Counts, each after the cells of the counted objects."""
    entries = []
    for name in _things(boxes, rng, rng.randint(0, 2)):
        cells = sorted(center_cell(box) for box in boxes if box.category == name)
        where = " and ".join(" ".join(_place_words(cell)) for cell in cells)
        entries.append((name, f"{where} {number(len(cells))}".strip()))
    return "Where and how many?", entries


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


def _claims(boxes: tuple[Box, ...], rng: random.Random, limit: int) -> list[tuple[Box, str, Box, bool]]:
    """Up to `limit` relations between single objects, each with whether it holds."""
    unique = [box for name in counts(boxes) if (box := only(boxes, name))]
    pairs = [(a, relation, b) for a in unique for b in unique if a is not b for relation in RELATIONS]
    claims = [(a, relation, b, holds(relation, a, b)) for a, relation, b in pairs]
    clear = [(a, relation, b, true) for a, relation, b, true in claims if true is not None]
    return rng.sample(clear, min(len(clear), limit))


def _relations(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    claims = _claims(boxes, rng, 24)
    return "Is it so?", [
        (f"{a.category} {spoken(relation)} {b.category}", "yes" if true else "no") for a, relation, b, true in claims
    ]


def _reasons(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    """Relations, with the columns or rows that decide."""
    entries = []
    for a, relation, b, true in _claims(boxes, rng, 12):
        axis = 0 if relation.endswith("of") else 1
        lines = " ".join(_place_words(center_cell(box))[axis] for box in (a, b))
        entries.append((f"{a.category} {spoken(relation)} {b.category}", f"{lines} {'yes' if true else 'no'}"))
    return "Is it so, and why?", entries


def _beside(boxes: tuple[Box, ...], rng: random.Random) -> _Entries:
    """The neighbor on one side of a single object, if there is at most one and no object is level with it."""
    entries = []
    for b in (box for name in counts(boxes) if (box := only(boxes, name))):
        for relation in RELATIONS:
            sides = [(a.category, holds(relation, a, b)) for a in boxes if a is not b]
            there = [name for name, side in sides if side]
            if len(there) < 2 and all(side is not None for _, side in sides):
                entries.append((f"{spoken(relation)} {b.category}", there[0] if there else "nothing"))
    return "What is beside it?", rng.sample(entries, len(entries))


_KINDS = (
    _cells, _coordinates, _coordinates, _presence, _counts, _counts, _counts, _counts, _places, _regions, _regions,
    _relations, _relations, _reasons, _beside, _beside, _beside,
)  # fmt: skip
"""Kinds of checklists; those that take more practice are listed several times."""

"""What the miniature LM reads: training scenes in text, and what can be said of them.

A scene is told in one of three ways: as 64 words in raster order (at an object's centre the first word of
its name, elsewhere the background's colour), which is the order a vision tower gives its features in; as
captions; or as the teacher's context of captions and boxes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from vistune.clients.scene_writer import SceneWriter
from vistune.context import format_context
from vistune.mini.captions import captions
from vistune.mini.scenes import Scene, sample_scene
from vistune.mini.vision import GRID, SIDE, center_cell
from vistune.records import ImageRecord

BOS, USER, ASSISTANT, END, PAD = "<s>", "<|user|>", "<|assistant|>", "<|end|>", "<pad>"


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
        words[center_cell(box)] = box.category.split()[0]
    return "".join(f" {word}" for word in words)


def document(seed: int, index: int) -> Document:
    """The document number `index`: mostly dialogues about a raster, some captions, some other contexts."""
    scene = sample_scene("train", seed, index)
    rng = random.Random(f"document/{seed}/{index}")
    told = captions(scene, rng)
    writer = SceneWriter(told, scene.boxes, rng)
    way = rng.random()
    if way < 0.12:
        return Document(((BOS + raster(scene), False), (rng.choice(told) + END, True)))
    shown = raster(scene) if way < 0.9 else format_context(ImageRecord(str(index), Path(), SIDE, SIDE, told, scene.boxes))
    return _dialogue(shown, _pairs(writer, rng))


def _pairs(writer: SceneWriter, rng: random.Random) -> list[tuple[str, str]]:
    pairs = writer.conversation(rng.randint(8, 14))
    way = rng.random()
    if way < 0.15:
        pairs.insert(rng.randrange(len(pairs)), (rng.choice(DESCRIBE), writer.description()))
    elif way < 0.3:
        pairs.insert(rng.randrange(len(pairs)), writer.reasoning())
    return pairs


DESCRIBE = (
    "Describe the image.",
    "Describe the picture in detail.",
    "What is this picture about?",
    "Tell me everything about this scene.",
)


def _dialogue(shown: str, pairs: list[tuple[str, str]]) -> Document:
    pieces = [(f"{BOS}{USER}{shown}\n", False)]
    for i, (question, answer) in enumerate(pairs):
        pieces.append((f"{USER if i else ''}{question}{END}{ASSISTANT}", False))
        pieces.append((answer + END, True))
    return Document(tuple(pieces))

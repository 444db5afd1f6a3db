"""Scenes on disk, and answerers that are known to be right, wrong or silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from vistune.demo.dataset import captions, draw
from vistune.demo.scenes import sample_scene
from vistune.records import ImageRecord

Prompts = Sequence[tuple[Image.Image | Path, str]]


class Says:
    """Answers by a function of the image and the question, and remembers what it was asked."""

    def __init__(self, say: Callable[[Image.Image | Path, str], str]) -> None:
        self.say, self.asked = say, []

    def answer(self, prompts: Prompts, *, max_new_tokens: int, batch_size: int) -> list[str]:
        assert max_new_tokens > 0
        assert batch_size > 0
        self.asked += list(prompts)
        return [self.say(image, question) for image, question in prompts]


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    """Forty scenes, drawn small."""
    import random

    folder = tmp_path_factory.mktemp("scenes")
    made = []
    for index in range(40):
        scene = sample_scene("test", 0, index)
        path = folder / f"{index:03}.png"
        draw(scene, 64).save(path)
        told = captions(scene, random.Random(index))
        made.append(ImageRecord(f"test/{index}", path, 64, 64, told, scene.boxes))
    return made


@pytest.fixture(scope="session")
def says() -> type[Says]:
    return Says

"""Scenes on disk, and answerers that are known to be right, wrong or silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from vistune.demo.dataset import captions, draw
from vistune.demo.scenes import sample_scene
from vistune.evaluate.models import Prompt
from vistune.records import ImageRecord


class Says:
    """Answers by a function of the first image and the question, and keeps the prompts that it got."""

    def __init__(self, say: Callable[[Image.Image | Path, str], str], name: str = "says") -> None:
        self.say, self.name, self.identity = say, name, name
        self.prompts: list[Prompt] = []

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        assert max_new_tokens > 0
        assert batch_size > 0
        self.prompts += prompts
        for index in reversed(range(len(prompts))):  # any order will do
            yield index, self.say(prompts[index].images[0], prompts[index].text)


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

"""What every annotation source promises; a new source adds its example here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vistune.errors import AnnotationError
from vistune.sources import sources

EXAMPLES = {"coco": "coco"}
"""For each source the fixture with a folder whose split `train` it reads."""


@pytest.fixture(params=sources.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue(EXAMPLES[name])
    assert isinstance(folder, Path)
    return folder


def test_records_are_complete(name: str, example: Path) -> None:
    records = sources.get(name)(example, "train")
    assert records
    assert len({record.id for record in records}) == len(records)
    for record in records:
        assert record.image.is_file()
        assert record.width > 0
        assert record.height > 0
        assert record.origin
        assert record.captions or record.boxes
        assert all(caption.strip() == caption != "" for caption in record.captions)
        for box in record.boxes:
            assert 0 <= box.x1 < box.x2 <= 1
            assert 0 <= box.y1 < box.y2 <= 1
            assert box.category


def test_reading_twice_gives_the_same(name: str, example: Path) -> None:
    assert sources.get(name)(example, "train") == sources.get(name)(example, "train")


@pytest.mark.parametrize("wrong", [lambda folder: (folder / "gone", "train"), lambda folder: (folder, "no-such-split")])
def test_what_is_not_there_is_an_error(name: str, example: Path, wrong: Callable[[Path], tuple[Path, str]]) -> None:
    folder, split = wrong(example)
    with pytest.raises(AnnotationError, match=str(folder)):
        sources.get(name)(folder, split)

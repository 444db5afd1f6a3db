"""What every annotation source promises; a new source adds its example to conftest.py, as a fixture of its name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from vistune.errors import AnnotationError, VistuneError
from vistune.sources import Source, detect, open_source, sources


@pytest.fixture(params=sources.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(name)
    assert isinstance(path, Path)
    return path


def opened(name: str, example: Path) -> Source:
    return open_source(name, example, "train" if sources.get(name).needs_split else None)


def test_records_are_complete(name: str, example: Path) -> None:
    source = opened(name, example)
    records = list(source)
    assert records
    assert len({record.id for record in records}) == len(records)
    assert any(record.captions or record.boxes for record in records)
    for record in records:
        assert record.image.relative_to(source.images)  # what the output says of it
        assert min(record.width, record.height) >= 0
        assert record.origin
        assert all(" ".join(caption.split()) == caption != "" for caption in record.captions)
        for box in record.boxes:
            assert 0 <= box.x1 < box.x2 <= 1
            assert 0 <= box.y1 < box.y2 <= 1
            assert box.category


def test_it_can_be_gone_through_again_and_in_part(name: str, example: Path) -> None:
    source = opened(name, example)
    first = next(iter(source))
    assert list(source) == list(source) == list(opened(name, example))
    assert next(iter(source)) == first


def test_only_the_named_path_and_split_are_read(name: str, example: Path) -> None:
    with pytest.raises(AnnotationError, match=str(example)):
        open_source(name, example / "gone", None)
    with pytest.raises(AnnotationError, match=r"no split 'no-such-split'\n  fix: ") as raised:
        open_source(name, example, "no-such-split")
    assert str(example) in str(raised.value)


def test_the_images_need_not_be_there(name: str, example: Path) -> None:
    if name in ("sidecar", "datasets", "webdataset"):
        pytest.skip("the images are what these formats are made of")
    before = [(record.id, record.captions, record.boxes) for record in opened(name, example)]
    for image in (example if example.is_dir() else example.parent).rglob("*.[pj][np]g"):
        image.unlink()
    if name == "coco":
        (example / "images").rmdir()
    assert [(record.id, record.captions, record.boxes) for record in opened(name, example)] == before


def test_options_are_checked(name: str, example: Path) -> None:
    with pytest.raises(AnnotationError, match=f"source '{name}' has no option --colour-column"):
        open_source(name, example, None, colour_column="x")


def test_an_unknown_source_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'captions'"):
        open_source("caption", Path())


def test_it_is_detected_by_its_content(name: str, example: Path) -> None:
    assert detect(example) == name
    assert type(open_source(None, example, "train" if sources.get(name).needs_split else None)) is sources.get(name)


def test_a_path_that_no_source_or_several_fit_is_an_error_with_the_candidates(coco: Path, sidecar: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cocoo: there is no such file or folder\n  fix: did you mean 'coco'"):
        detect(coco.with_name("cocoo"))
    (coco.parent / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"empty: no source recognises this folder\n  fix: .*--source captions"):
        detect(coco.parent / "empty")
    for file in coco.glob("*.json"):
        file.rename(sidecar / file.name)
    with pytest.raises(AnnotationError, match=r"several sources fit: coco, sidecar\n  fix: choose --source coco or"):
        open_source(None, sidecar)


@pytest.mark.parametrize(("own", "other"), list(pairwise([*sources.names(), sources.names()[0]])))
def test_another_format_is_recognised_by_its_content(own: str, other: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(own)
    assert sources.get(own).fits(path)
    if sources.get(other).fits(path) or (own, other) == ("caps_boxes", "captions"):
        return  # captions are read from a file with boxes, too
    with pytest.raises(AnnotationError, match=f"try .*--source {own}"):
        open_source(other, path, None)

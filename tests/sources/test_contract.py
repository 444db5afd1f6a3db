"""What every annotation source promises; a new source adds its example to conftest.py, as a fixture of its name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from annotation_tools import TOOLS, run_fix
from vistune.errors import AnnotationError, VistuneError
from vistune.sources import AnnotatedImages, detect, open_source, sources
from vistune.sources._contents import Contents


@pytest.fixture(params=sources.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, request: pytest.FixtureRequest) -> Path:
    return example_of(name, request)


def example_of(name: str, request: pytest.FixtureRequest) -> Path:
    """A data set in the format: as a tool writes it, or a fixture of the source's name."""
    if name in TOOLS:
        (folder := request.getfixturevalue("tmp_path") / name).mkdir()
        return TOOLS[name](folder)
    path = request.getfixturevalue(name)
    assert isinstance(path, Path)
    return path


def opened(name: str, example: Path) -> AnnotatedImages:
    return open_source(name, example)


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
    sized = name not in ("createml", "dota", "kitti", "via")
    for image in (example if example.is_dir() else example.parent).rglob("*.[pj][np]g"):
        image.unlink()
    if not sized:
        with pytest.raises(AnnotationError, match=r"the size of the image .* is not known\n  fix: .* --images"):
            list(opened(name, example))
        return
    assert [(record.id, record.captions, record.boxes) for record in opened(name, example)] == before


def test_options_are_checked(name: str, example: Path) -> None:
    with pytest.raises(AnnotationError, match=f"source '{name}' has no option --colour-column"):
        open_source(name, example, None, colour_column="x")


def test_an_unknown_source_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'captions'"):
        open_source("caption", Path())


def test_it_is_detected_by_its_content(name: str, example: Path) -> None:
    assert detect(example) == name
    assert type(open_source(None, example).source) is sources.get(name)


def test_a_path_that_no_source_fits_is_an_error_with_its_contents(coco: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cocoo: there is no such file or folder\n  fix: did you mean 'coco'"):
        detect(coco.with_name("cocoo"))
    (coco.parent / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"empty: no annotation format is recognised: it is empty\n  fix: .*coco"):
        detect(coco.parent / "empty")
    with pytest.raises(AnnotationError, match=r"it holds 3 .jpg\n  fix: there are images and no annotations"):
        detect(coco / "images")
    (coco / "notes.json").write_text('{"made": "by hand", "by": "me"}')
    with pytest.raises(AnnotationError, match=r"notes.json: .* is a JSON object with the keys made, by\n  fix: rows"):
        detect(coco / "notes.json")


def test_of_several_that_fit_each_command_opens_its_own(coco: Path, voc: Path) -> None:
    (voc / "Annotations").rename(coco / "Annotations")
    with pytest.raises(AnnotationError, match=r"several formats fit: coco, voc") as raised:
        open_source(None, coco)
    assert [type(one.source).__name__ for one in run_fix(raised.value)] == ["Coco", "Voc"]


def test_a_data_set_within_a_folder_has_the_command_that_opens_it(webdataset: Path) -> None:
    with pytest.raises(AnnotationError, match=r"it holds 2 .tar, 1 .png; tars looks like webdataset") as raised:
        detect(webdataset.parent)
    assert [one.source.images for one in run_fix(raised.value)] == [webdataset]


def test_the_annotations_may_be_apart_from_the_images(name: str, example: Path, tmp_path: Path) -> None:
    """`--annotations PATH --images DIR`: the same boxes and captions, and every image is found."""
    if name in ("datasets", "webdataset"):
        pytest.skip("their images are within")
    before = {record.id.rpartition("/")[2]: (record.captions, record.boxes) for record in opened(name, example)}
    apart, root = tmp_path / "apart", example if example.is_dir() else example.parent
    for image in [file for file in root.rglob("*") if file.suffix in (".png", ".jpg")]:
        target = apart / image.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        image.rename(target)
    source = open_source(name, example, images=apart)
    found = {record.id.rpartition("/")[2]: (record.captions, record.boxes) for record in source}
    assert found == before
    assert source.findings.missing == 0
    assert all(record.image.is_relative_to(apart) for record in source)


@pytest.mark.parametrize(("own", "other"), list(pairwise([*sources.names(), sources.names()[0]])))
def test_another_format_is_recognised_by_its_content(own: str, other: str, request: pytest.FixtureRequest) -> None:
    path = example_of(own, request)
    assert sources.get(own).fits(Contents(path))
    if sources.get(other).fits(Contents(path)) or (own, other) == ("caps_boxes", "captions"):
        return  # captions are read from a file with boxes, too
    with pytest.raises(AnnotationError) as raised:
        open_source(other, path, None)
    assert [type(one.source) for one in run_fix(raised.value)] == [sources.get(own)]

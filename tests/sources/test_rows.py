"""Captions, and captions with boxes, in rows: their variants, and what is told of a broken file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from vistune.errors import AnnotationError, DataError
from vistune.generate.plan import make_plan
from vistune.records import Box, ImageRecord
from vistune.sources import detect, open_source


def read(source: str, path: Path, **options: Any) -> list[ImageRecord]:
    return list(open_source(source, path, **options))


def captions_of(path: Path, content: str, **options: Any) -> dict[str, tuple[str, ...]]:
    path.write_text(content, "utf-8")
    return {record.id: record.captions for record in read("captions", path, **options)}


TWO = {"a/1": ("A dog.", "Brown, it is."), "2": ("A cat.",)}


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("x.csv", 'image,caption\na/1.jpg,A dog.\na/1.jpg,"Brown,  it is."\n2.jpg,A cat.\n', {}),
        ("x.csv", "\ufeffFile_Name;CAPTION\r\na/1.jpg;A dog.\r\na/1.jpg;Brown, it is.\r\n2.jpg;A cat.\r\n", {}),
        ("x.txt", "image_name| comment\na/1.jpg| A dog.\na/1.jpg| Brown, it is.\n2.jpg| A cat.\n", {}),
        ("x.tsv", "image\tone\ttwo\na/1.jpg\tA dog.\tBrown, it is.\n2.jpg\tA cat.\t\n",
         {"caption_column": ["one", "two"]}),
        ("x.jsonl", '{"image": "./a/1.jpg", "captions": ["A dog.", "Brown, it is."]}\n'
         '\n{"image": "2.jpg", "text": "A cat."}', {}),
        ("x.json", '[{"img": {"file": "a/1.jpg"}, "s": [{"raw": "A dog."}, {"raw": "Brown, it is."}]},'
                   ' {"img": {"file": "2.jpg"}, "s": [{"raw": "A cat."}]}]',
         {"image_column": "img.file", "caption_column": ["s.raw"]}),
        ("x.json", '{"path": "a/1.jpg", "caption": ["A dog.", "Brown, it is."]}\n'
         '{"path": "2.jpg", "caption": "A cat."}\n', {}),
    ],
)  # fmt: skip
def test_rows_in_many_forms(tmp_path: Path, name: str, content: str, options: dict[str, Any]) -> None:
    assert captions_of(tmp_path / name, content, **options) == TWO


def test_parquet_without_the_bytes_of_images(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"image": {"bytes": b"x" * 100, "path": "1.jpg"}, "caption": "A dog."}] * 2
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=1)
    (record,) = read("captions", tmp_path / "x.parquet")
    assert (record.id, record.captions) == ("1", ("A dog.",))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(AnnotationError, match=r"x.parquet: not a whole parquet file"):
        read("captions", tmp_path / "x.parquet")


def test_an_address_is_where_wget_would_put_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("url,caption\nhttps://a.org/b%20c/1.jpg?size=2,A dog.\n")
    (record,) = read("captions", tmp_path / "x.csv", images=tmp_path / "img")
    assert record.image == tmp_path / "img" / "a.org" / "b c" / "1.jpg?size=2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            "picture_no,words\n1,A dog.\n",
            r"line 2: .*no column with images .*\n.*--image-column.*picture_no, words",
        ),
        ("x.csv", "image,caption\n1.jpg,A dog, brown.\n", r"line 2: it has 3 fields, and the first line has 2"),
        ("x.csv", 'image,caption\n1.jpg,"A dog.\n' + "x" * 140_000, "not valid CSV"),
        ("x.csv", "image,caption\n", "it has no records"),
        (
            "x.csv",
            'image,caption\n1.jpg,"A dog.\n2.jpg,A cat.\n3.jpg,A.\n',
            "line 2: up to line 4, not valid CSV: .*\n  fix: is a double quote missing",
        ),
        ("x.csv", 'image,caption\n1.jpg,"A dog.\n2.jpg,A cat.\n3.jpg,"A."\n', "line 2: up to line 4, not valid CSV"),
        (
            "x.csv",
            'image,caption\n1.jpg,"A\n' + "2.jpg,A dog.\n" * 10 + '3.jpg,5"\n',
            "line 2: up to line 13, not valid",
        ),
        ("x.csv", 'image,caption\n1.jpg,"A\n2.jpg,5",\n', "line 2: up to line 3, it has 3 fields"),
        ("x.csv", 'image,"cap"tion\n1.jpg,A\n', "line 1: not valid CSV"),
        (
            "x.json",
            "[" * 100_000,
            r"record 0: not valid JSON: too many nested .*\n  fix: a record is",
        ),
        ("x.jsonl", '{"image": "1.jpg", "caption": "A dog."}\n{"image": ', r"x.jsonl: line 2: not valid JSON"),
        ("x.jsonl", '{"image": "1.jpg", "caption": "A dog."}\n[1]', r"x.jsonl: line 2: this is not an object"),
        ("x.jsonl", '{"image": 3, "caption": "A dog."}', r"line 1: the image is not a path: 3"),
        ("x.jsonl", '{"image": "1.jpg", "caption": {"a": 1}}', r"line 1: a caption is not a text"),
        ("x.json", '[{"image": "1.jpg", "caption": "A dog."}, {', r"record 1: not valid JSON: it is cut off"),
        ("x.json", '{"a": [\n1]}', "not a list of records"),
    ],
)
def test_broken_rows_name_the_file_and_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        captions_of(tmp_path / name, content)


def test_texts_over_many_lines_are_no_missing_quote(tmp_path: Path) -> None:
    text = 'A dog,\n\nbrown and "big",\n' + "\n".join(f"with line {number}" for number in range(20))
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], ["1.jpg", text], ["2.jpg", "A cat."]])
    one, two = read("captions", tmp_path / "x.csv")
    assert one.captions == (" ".join(text.split()),)
    assert (one.origin.rpartition(": ")[2], two.origin.rpartition(": ")[2]) == ("line 2", "line 25")


def test_a_line_with_a_wrong_quote_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        'image,caption\n1.jpg,"A "big" dog."\n2.jpg,A 5" cat.\n3.jpg,"A ""tree"""\n4.jpg,"A'
    )
    told: list[AnnotationError] = []
    found = read("captions", tmp_path / "x.csv", on_error=told.append)
    assert [record.captions for record in found] == [('A 5" cat.',), ('A "tree"',)]
    assert [error.where.rpartition(": ")[2] for error in told] == ["line 2", "line 5"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize(("name", "line"), [("x.csv", "{0},{1}"), ("x.jsonl", '{{"image": "{0}", "caption": "{1}"}}')])
def test_another_encoding_is_told_with_its_fix(tmp_path: Path, encoding: str, name: str, line: str) -> None:
    lines = [line.format(*words) for words in (("image", "caption"), ("1.jpg", "Ein Bär."))]
    (tmp_path / name).write_bytes("\n".join(lines).encode(encoding))
    number = 2 if encoding == "latin-1" else 1
    with pytest.raises(AnnotationError, match=rf"(?s){name}: line {number}: .*\n  fix: save it as UTF-8"):
        read("captions", tmp_path / name)


def test_one_of_the_first_rows_says_what_a_file_has(tmp_path: Path) -> None:
    box = {"category": "dog", "bbox": [0, 0, 1, 1]}
    rows = [{"image": "1.jpg", "captions": ["A dog."]}, {"image": "2.jpg", "captions": ["A dog."], "instances": [box]}]
    lines = list(map(json.dumps, rows))
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert [len(record.boxes) for record in read("caps_boxes", tmp_path / "x.jsonl")] == [0, 1]
    assert detect(tmp_path / "x.jsonl") == "caps_boxes"
    told: list[AnnotationError] = []
    (tmp_path / "x.jsonl").write_text("\n".join(['{"words": 1}', *lines]))
    assert [record.id for record in read("captions", tmp_path / "x.jsonl", on_error=told.append)] == ["1", "2"]
    assert [error.where.rpartition(": ")[2] for error in told] == ["line 1"]
    (tmp_path / "x.jsonl").write_text("\n".join([lines[0]] * 100 + [lines[1]]))
    with pytest.raises(
        AnnotationError, match=r"line 1: there is no column with boxes .*\n  fix: .* --source captions --show"
    ):
        read("caps_boxes", tmp_path / "x.jsonl")


def test_two_records_of_one_id_are_told_with_their_fix(tmp_path: Path) -> None:
    def check(content: str) -> None:
        (tmp_path / "x.csv").write_text(content)
        make_plan(open_source("captions", tmp_path / "x.csv"), {"conversation": 1.0}, 0)

    check("image,caption\n1.jpg,A\n1.jpg,B\n2.jpg,A\n")
    with pytest.raises(
        DataError, match=r"line 4: .* id '1'; the first is .*x.csv: line 2\n  fix: .*sort the file by image"
    ):
        check("image,caption\n1.jpg,A\n2.jpg,A\n1.jpg,B\n")
    with pytest.raises(
        DataError, match=r"line 3: .* id '1'; .*\n  fix: .*column 'id', or rename one of .*1.jpg and .*1.png"
    ):
        check("image,caption\n1.jpg,A\n1.png,A\n")


def test_a_mistyped_column_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"no column 'captoin'\n  fix: did you mean 'caption'"):
        captions_of(tmp_path / "x.csv", "image,caption\n1.jpg,A dog.\n", caption_column=["captoin"])


def test_a_bad_record_is_told_once_however_often_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "1.jpg", "caption": "A."}\nbad\n{"image": 2, "caption": ""}\n')
    told: list[AnnotationError] = []
    source = open_source("captions", tmp_path / "x.jsonl", on_error=told.append)
    next(iter(source))
    assert [record.id for record in source] == [record.id for record in source] == ["1"]
    assert [error.where.rpartition(" ")[2] for error in told] == ["2", "3"]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"category": "dog", "bbox": [10, 20, 50, 90]}, "is not in fractions\n  fix: its values are fractions"),
        ({"category": "dog", "bbox": [0.5, 0.2, 0.4]}, "not four numbers"),
        ({"category": "dog", "bbox": [0.1, 0.2, float("nan"), 0.9]}, "not four numbers"),
        ({"category": "", "bbox": [0.1, 0.2, 0.3, 0.9]}, "the category is not a text"),
        ("dog", "this is not an object"),
    ],
)
def test_caps_boxes_are_checked(tmp_path: Path, instance: Any, message: str) -> None:
    good = [["cat", [0, 0, 1, 1]], {"category": "dog", "bbox": [-0.004, 0.2, 1.003, 0.9]}]
    rows = [{"file_name": name, "instances": boxes} for name, boxes in (("1.jpg", [*good, instance]), ("2.jpg", good))]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told: list[AnnotationError] = []
    (record,) = read("caps_boxes", tmp_path / "x.jsonl", on_error=told.append)
    assert (record.id, record.boxes) == ("2", (Box("cat", 0, 0, 1, 1), Box("dog", 0, 0.2, 1, 0.9)))
    assert len(told) == 1
    with pytest.raises(AnnotationError, match=rf"x.jsonl: line 1, instances\[2\]: .*{message}"):
        raise told[0]


def test_a_mistake_in_one_row_of_an_image_leaves_the_image_out(tmp_path: Path) -> None:
    box = {"category": "dog", "bbox": [0.1, 0.2, 0.3, 0.4]}
    other = {"category": "dog", "bbox": [0.5, 0.2, 0.7, 0.4]}
    rows = [("1.jpg", box), ("1.jpg", {"category": "dog", "bbox": [0, 0, 9]}), ("1.jpg", other)]
    rows += [("2.jpg", box), ("2.jpg", other), ("2.jpg", box), (None, box), ("2.jpg", box), ("./", box)]
    lines = [json.dumps({"image": image, "instances": [box]}) for image, box in rows]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    told: list[AnnotationError] = []
    (record,) = read("caps_boxes", tmp_path / "x.jsonl", on_error=told.append)
    assert (record.id, len(record.boxes)) == ("2", 2)
    assert [error.where.rpartition("x.jsonl: ")[2] for error in told] == ["line 2, instances[0]", "line 7", "line 9"]

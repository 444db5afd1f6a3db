"""What every file format promises; a new one adds its writer here."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from vistune.errors import AnnotationError, VistuneError
from vistune.formats import Format, Location, fitting, formats, stop

ROWS = [{"id": f"{number}", "text": f'a "big", dog;\n{number} 🐕 ä'} for number in range(5)]


def write_csv(folder: Path) -> Path:
    with (folder / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(ROWS)
    return folder / "x.csv"


def write_list(folder: Path) -> Path:
    (folder / "x.json").write_text(json.dumps(ROWS, indent=1, ensure_ascii=False), "utf-8")
    return folder / "x.json"


def write_lines(folder: Path) -> Path:
    (folder / "x.json").write_text("".join(f"{json.dumps(row)}\n\n" for row in ROWS))
    return folder / "x.json"


def write_parquet(folder: Path) -> Path:
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "x.parquet", row_group_size=2)
    return folder / "x.parquet"


def write_saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def write_hub(folder: Path) -> Path:
    return Path(f"hub:{write_parquet(folder).parent}")  # a folder loads as a downloaded data set does


def write_tar(folder: Path, form: int = tarfile.PAX_FORMAT, name: str = "a/row") -> Path:
    (folder / "tar").mkdir()
    for shard in range(2):
        with tarfile.open(folder / "tar" / f"{shard}.tar", "w", format=form) as tar:
            for number, row in list(enumerate(ROWS))[3 * shard : 3 * shard + 3]:
                for ending, content in (
                    ("json", json.dumps(row).encode()),
                    ("2.PNG", b"second" * 200),
                    ("1.jpg", b"1"),
                ):
                    member = tarfile.TarInfo(f"{name}{number}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder / "tar"


def write_xlsx(folder: Path) -> Path:
    """As Excel writes it: a text once, cells by number, empty cells left out; one text in parts, one in its cell."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    texts = [escape(row["text"]) for row in ROWS]
    texts[1] = f"<r><t>{texts[1][:3]}</t></r><r><b/><t>{texts[1][3:]}</t></r>"
    items = [f"<si>{text if text.startswith('<r>') else f'<t>{text}</t>'}</si>" for text in ["id", "text", *texts]]
    lines = ['<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>', '<row r="2"></row>']
    for number, row in enumerate(ROWS, 3):
        cell = f't="s"><v>{number - 1}</v>' if number != 5 else f't="inlineStr"><is><t>{escape(row["text"])}</t></is>'
        lines.append(f'<row r="{number}"><c r="A{number}"><v>{row["id"]}</v></c><c r="C{number}" {cell}</c></row>')
    with zipfile.ZipFile(folder / "x.xlsx", "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {main}>{''.join(items)}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
    return folder / "x.xlsx"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "csv": write_csv, "hub": write_hub, "json_lines": write_lines, "json_list": write_list, "parquet": write_parquet,
    "saved": write_saved, "webdataset": write_tar, "xlsx": write_xlsx,
}  # fmt: skip


@pytest.fixture(params=formats.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(name: str, tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    return str(WRITERS[name](tmp_path / "data"))


def opened(name: str, path: str) -> Format:
    return formats.get(name)(Location(path, AnnotationError))


def without_images(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "images"}


def test_a_path_has_one_format(name: str, path: str) -> None:
    assert fitting(path) == [name]


def test_a_scan_gives_every_row_and_can_be_repeated(name: str, path: str) -> None:
    rows = list(opened(name, path).scan(stop))
    assert [without_images(row.values) for row in rows] == ROWS
    assert len({row.where for row in rows}) == len({row.place for row in rows}) == len(ROWS)
    assert all(row.where.startswith(path) for row in rows)
    assert list(opened(name, path).scan(stop)) == rows


def test_a_row_is_read_again_by_its_place(name: str, path: str) -> None:
    reader = opened(name, path)
    if not formats.get(name).random_access:
        pytest.skip("it is only streamed")
    for row in [*reader.scan(stop, images=True)][::-1]:
        again = reader.read(row.place)
        assert (without_images(again.values), again[1:]) == (without_images(row.values), row[1:])


def test_a_missing_file_is_an_error_with_its_name(name: str, path: str) -> None:
    with pytest.raises(VistuneError, match=f"{path}-gone"):
        list(opened(name, f"{path}-gone").scan(stop))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_file_with_long_names(form: int, tmp_path: Path) -> None:
    reader = opened("webdataset", str(write_tar(tmp_path, form, "ä" * 150 + "/row")))
    for number, row in enumerate(reader.scan(stop, images=True)):
        assert row.values == {**ROWS[number], "images": [b"?", b"?"]}
        assert reader.read(row.place).values == {**ROWS[number], "images": [b"1", b"second" * 200]}


@pytest.mark.parametrize("content", ["[" * 200_000, f'{{"a": {"9" * 5_000}}}'])
def test_brackets_and_digits_without_end_are_errors_with_their_place(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f"{{}}\n{content}\n")
    (tmp_path / "x.json").write_text(f"[{{}},\n{content}]")
    noted: list[AnnotationError] = []
    assert len(list(opened("json_lines", str(tmp_path / "x.jsonl")).scan(noted.append))) == 1
    assert [error.where for error in noted] == [f"{tmp_path / 'x.jsonl'}: line 2"]
    with pytest.raises(AnnotationError, match=r"x\.json: record 1: not valid JSON"):
        list(opened("json_list", str(tmp_path / "x.json")).scan(stop))

"""Broken files of each format, and which format a path is."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from vistune.data.source import DataSource
from vistune.errors import DataError, MissingPackageError
from vistune.formats import read_objects
from vistune.recipe.training import DataRecipe

TALK = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
ROWS = [{"id": str(i), "conversations": TALK} for i in range(3)]


def opened(path: Path | str, **keys: str) -> DataSource:
    return DataSource(DataRecipe(path=str(path), **keys))


def test_the_format_is_told_by_the_ending_or_by_what_a_folder_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: there is no such file or folder\n.*hub:owner/name"):
        opened(tmp_path / "gone")
    with pytest.raises(DataError, match=r"not in a known data format\n.*webdataset"):
        opened(tmp_path)
    (tmp_path / "x.csv").write_text("a")
    with pytest.raises(DataError, match=r"x\.csv: not in a known data format"):
        opened(tmp_path / "x.csv")
    for name in ("a.parquet", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="several formats"):
        opened(tmp_path)


def test_a_key_that_means_nothing_for_the_format_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("")
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="format json_lines has no 'split'"):
        opened(tmp_path / "x.jsonl", split="train")
    with pytest.raises(DataError, match="format parquet has no 'subset'"):
        opened(tmp_path / "x.parquet", subset="a")
    with pytest.raises(DataError, match="a single file has no splits"):
        opened(tmp_path / "x.parquet", split="train")


def test_parquet_that_is_cut_off_is_named(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train-0.parquet")
    whole = (tmp_path / "train-0.parquet").read_bytes()
    (tmp_path / "train-1.parquet").write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"train-1\.parquet: not a whole parquet file"):
        opened(tmp_path)
    spoilt = bytearray(whole)
    spoilt[4:200] = bytes(196)
    (tmp_path / "train-1.parquet").write_bytes(spoilt)
    with pytest.raises(DataError, match=f"^{tmp_path}: cannot be read: "):
        opened(tmp_path)


def test_a_parquet_folder_may_have_splits_and_files_without_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    for name, rows in (("train-0", 3), ("train-1", 0), ("test-0", 2)):
        parquet.write_table(table.slice(0, rows), tmp_path / f"{name}.parquet")
    assert len(opened(tmp_path, split="train")) == 3
    assert len(opened(tmp_path, split="test")) == 2
    assert len(opened(tmp_path)) == 5
    with pytest.raises(DataError, match=r"no split 'val'\n.*test-0\.parquet, train-0"):
        opened(tmp_path, split="val")


def test_a_table_needs_a_column_of_conversations(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no column 'conversations' or 'messages'\n.*text, label"):
        opened(tmp_path / "x.parquet")


def test_saved_splits(tmp_path: Path) -> None:
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(tmp_path)
    assert (len(opened(tmp_path)), len(opened(tmp_path, split="test"))) == (3, 1)
    with pytest.raises(DataError, match=r"no split 'tset'\n.*'test'"):
        opened(tmp_path, split="tset")
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "single")
    assert len(opened(tmp_path / "single", split="train")) == 3
    with pytest.raises(DataError, match=r"no split 'test'\n.*train"):
        opened(tmp_path / "single", split="test")
    next((tmp_path / "train").glob("*.arrow")).write_bytes(b"")
    with pytest.raises(DataError, match=f"^{tmp_path}: cannot be read"):
        opened(tmp_path)


def test_tables_of_messages_with_parts(tmp_path: Path) -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "q"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]
    parquet.write_table(pa.Table.from_pylist([{"messages": messages, "images": [b"x"]}]), tmp_path / "x.parquet")
    (conversation,) = opened(tmp_path / "x.parquet")
    assert [turn.text for turn in conversation.turns] == ["<image>\nq", "a"]
    assert conversation.images == (f"{tmp_path}/x.parquet//0.0",)


def test_what_is_wrong_with_a_tar_file(tmp_path: Path) -> None:
    def write(name: str, *members: tuple[str, str]) -> Path:
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, text in members:
                (tmp_path / "member").write_text(text)
                tar.add(tmp_path / "member", member)
        return tmp_path / name

    with pytest.raises(DataError, match=r"a\.tar: 'x/1' has no \.json"):
        opened(write("a.tar", ("x/1.jpg", "")))
    with pytest.raises(DataError, match=r"b\.tar: record 1\.json: not valid JSON"):
        opened(write("b.tar", ("0.json", json.dumps(ROWS[0])), ("1.json", "{")))
    whole = write("c.tar", ("0.json", json.dumps(ROWS[0])), ("1.json", json.dumps(ROWS[1])))
    (tmp_path / "d.tar").write_bytes(whole.read_bytes()[: 512 * 3 + 20])
    with pytest.raises(DataError, match=r"d\.tar: not a whole tar file: unexpected end of data"):
        opened(tmp_path / "d.tar")
    (tmp_path / "e.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"e\.tar: not a whole tar file"):
        opened(tmp_path / "e.tar")


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingPackageError, match=r"needs the package datasets\n.*pip install 'vistune\[data\]'"):
        opened(tmp_path)


@pytest.mark.parametrize("spoil", [lambda whole: whole[:-30], lambda _: b"id,text\n", lambda _: b""])
def test_an_excel_file_that_is_none_is_named(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    assert list(read_objects(path, DataError)) == []
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"x\.xlsx: not a whole Excel workbook"):
        list(read_objects(path, DataError))

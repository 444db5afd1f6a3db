"""Files of rows in each format, spoilt: training data in each layout, questions, tables."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import datasets
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from fuzzing import fuzz
from vistune.data.questions import read_questions
from vistune.data.source import DataSource
from vistune.errors import DataError
from vistune.formats import read_objects
from vistune.recipe.training import DataRecipe

Rows = list[dict[str, Any]]
Q, A = {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A dog."}
LAYOUTS: Rows = [
    {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": [{"type": "image"},
     {"type": "text", "text": "What is it?"}]}, {**A, "weight": 1}]},
    {"prompt": [Q], "completion": [A]},
    {"texts": [{"user": "What is it?", "assistant": "A dog."}]},
    {"query": "And now?", "response": "A cat.", "history": [["What is it?", "A dog."]]},
    {"instruction": "What is it?", "input": "Here.", "output": "A dog."},
    {"question": "What is it?", "answer": "A dog."},
    {"prompt": "What is it?", "chosen": "A dog.", "rejected": "A cat."},
    {"chosen": [Q, A], "rejected": [Q, {**A, "content": "A cat."}]},
    {"messages": [Q, A], "rejected_response": "A cat."},
]  # fmt: skip
SAME = [{"id": str(n), "conversations": LAYOUTS[0]["conversations"], "image": f"{n}.png"} for n in range(4)]
QUESTIONS: Rows = [
    {"id": 1, "image": "0.png", "question": "What is it?", "answer": "A dog."},
    {"id": 2, "image": "1.png", "question": "Which?", "choices": ["dog", "cat"], "answer": "B", "type": "choice"},
    {"id": 3, "images": ["0.png", "2.png"], "question": "Where?", "answers": ["left", {"answer": "right"}, [1, 2]]},
    SAME[3],
]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((12, 9), 50).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images; `datasets` keeps what it makes of tables in it, too."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png())
    return tmp_path


def with_images(rows: Rows) -> Rows:
    return [{**row, "id": str(n), "image": f"{n % 4}.png"} for n, row in enumerate(rows)]


def json_list(path: Path) -> None:
    path.write_text(json.dumps(with_images(LAYOUTS)))


def json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in with_images(LAYOUTS)))


def parquet_file(path: Path) -> None:
    parquet.write_table(
        pa.Table.from_pylist([{**row, "images": [{"bytes": png(), "path": None}]} for row in SAME]), path
    )


def tar_file(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(SAME):
            for name, content in ((f"{number}.json", json.dumps(row).encode()), (f"{number}.png", png())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def read_all(path: Path, *, skip: bool = False) -> None:
    source = DataSource(DataRecipe(path=str(path), images=str(path.parent)), (lambda _: None) if skip else None)
    for conversation in source:
        for name in conversation.images:
            if source.holds(name):
                source.image(name).open()


@pytest.mark.parametrize(
    ("name", "write"),
    [("x.json", json_list), ("x.jsonl", json_lines), ("x.parquet", parquet_file), ("x.tar", tar_file)],
)
@pytest.mark.parametrize("skip", [False, True])
def test_training_data(name: str, write: Callable[[Path], None], skip: bool, folder: Path) -> None:
    write(folder / name)
    fuzz([folder / name], lambda: read_all(folder / name, skip=skip))


def test_saved_data_sets(folder: Path) -> None:
    datasets.Dataset.from_list(SAME).save_to_disk(folder / "saved")
    files = sorted(file for file in (folder / "saved").iterdir() if file.is_file())
    (folder / "saved" / "0.png").write_bytes(png())
    recipe = DataRecipe(path=str(folder / "saved"), images=str(folder))
    fuzz(files, lambda: list(DataSource(recipe)))


def excel(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = [list(QUESTIONS[0]), *(list(map(str, row.values())) for row in rows)]
    cells = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>' for cell in line) + "</row>"
        for line in lines
    )
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{space}"><sheetData>{cells}</sheetData></worksheet>'
        )


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "tsv", "xlsx"])
def test_questions(ending: str, folder: Path) -> None:
    path = folder / f"x.{ending}"
    if ending == "json":
        path.write_text(json.dumps(QUESTIONS))
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    elif ending == "xlsx":
        excel(path, QUESTIONS[:1] * 3)
    else:
        tab = "\t" if ending == "tsv" else ","
        path.write_text(f'image{tab}question{tab}answers{tab}choices\n0.png{tab}"Which, or ""what""?"{tab}a{tab}a|b\n')
    fuzz([path], lambda: [row.training_row() for row in read_questions(path)])


def test_rows_of_a_database_are_no_rows(folder: Path) -> None:
    with sqlite3.connect(folder / "x.json") as database:
        database.execute("CREATE TABLE x (y)")
    with pytest.raises(DataError, match=r"\n  fix: "):
        list(read_objects(folder / "x.json", DataError))

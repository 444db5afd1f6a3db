from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from vistune.data.source import DataSource
from vistune.errors import StorageError, VistuneError
from vistune.formats.conversations import FORMATS, output_path, to_json, write_conversations
from vistune.recipe.training import DataRecipe
from vistune.records import Conversation, Turn
from vistune.storage import atomic_text

TEXT = 'It says "a\tb" \\ \u2028 \x85 \N{DOG FACE} \u5b57,\nin two lines. </s> {{x}} ==='


def conversations(n: int) -> list[Conversation]:
    asked = Turn("user", "<image>\nWhat is it?")
    later = (Turn("user", "And now?"), Turn("assistant", TEXT))
    return [
        Conversation(f"{i}-detail", (asked, Turn("assistant", f"No. {i}"), *later * (i % 3)), (f"a/{i}.png",), "detail")
        for i in range(n)
    ]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for i in range(5):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_what_our_own_readers_read(form: str, images: Path) -> None:
    written = conversations(5)
    assert write_conversations(written, images / "instruct", form) == 5
    read = list(DataSource(DataRecipe(path=str(output_path(images / "instruct", form)), images=str(images))))
    assert [(one.id, one.turns) for one in read] == [(one.id, one.turns) for one in written]
    assert [one.images for one in read] == [(str(images / one.images[0]),) for one in written]


@pytest.mark.parametrize(("form", "loader"), [("messages", "json"), ("parquet", "parquet")])
def test_what_is_written_loads_with_datasets(form: str, loader: str, tmp_path: Path) -> None:
    write_conversations(conversations(5), tmp_path / "x", form)
    table = datasets.load_dataset(
        loader, data_files=str(output_path(tmp_path / "x", form)), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table["id"] == [f"{i}-detail" for i in range(5)]
    turns = table[1]["messages" if form == "messages" else "conversations"]
    assert [turn["content" if form == "messages" else "value"] for turn in turns][-1] == TEXT


def test_many_rows_make_row_groups_and_the_same_bytes(tmp_path: Path) -> None:
    from pyarrow import parquet

    for name in ("a", "b"):
        write_conversations(iter(conversations(4_100)), tmp_path / name, "parquet")
    assert parquet.read_metadata(tmp_path / "a.parquet").num_row_groups == 3
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_written_is_a_readable_file_all_the_same(form: str, tmp_path: Path) -> None:
    assert write_conversations([], tmp_path / "x", form) == 0
    path = output_path(tmp_path / "x", form)
    assert path.exists()
    assert form == "parquet" or (json.loads(path.read_text() or "[]") == [])


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_there_whole_or_as_it_was(form: str, tmp_path: Path) -> None:
    def failing(error: Exception) -> Iterator[Conversation]:
        yield from conversations(3)
        raise error

    write_conversations(conversations(2), tmp_path / "x", form)
    before = output_path(tmp_path / "x", form).read_bytes()
    with pytest.raises(RuntimeError):
        write_conversations(failing(RuntimeError()), tmp_path / "x", form)
    with pytest.raises(StorageError, match="No space left"):
        write_conversations(failing(OSError(errno.ENOSPC, "No space left on device")), tmp_path / "x", form)
    assert [path.name for path in tmp_path.iterdir()] == [output_path(tmp_path / "x", form).name]
    assert output_path(tmp_path / "x", form).read_bytes() == before


def test_files_of_other_formats_stay(tmp_path: Path) -> None:
    for form in FORMATS:
        write_conversations(conversations(1), tmp_path / "x", form)
    assert {*tmp_path.iterdir()} == {output_path(tmp_path / "x", form) for form in FORMATS}


def test_an_unknown_format_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match="did you mean 'parquet'"):
        write_conversations([], tmp_path / "x", "parkuet")


def test_half_a_surrogate_pair_is_written_as_a_question_mark(tmp_path: Path) -> None:
    with atomic_text(tmp_path / "x") as file:
        file.write(to_json({"text": json.loads('"a\\ud800b"')}))
    assert json.loads((tmp_path / "x").read_text("utf-8")) == {"text": "a?b"}

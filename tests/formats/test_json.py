from __future__ import annotations

import json
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from vistune.data.source import DataSource
from vistune.errors import DataError
from vistune.formats import Location, _json_stream, json_list, stop
from vistune.recipe.training import DataRecipe


def record(number: int, text: str = "a") -> dict[str, Any]:
    return {"id": number, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": text}]}


def test_a_list_is_read_alike_whatever_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    alphabet = 'a"\\{}[],: \n\u00e4\u65e5\U0001f415\ud7ff'
    records = [record(i, "x" + "".join(rng.choices(alphabet, k=rng.randrange(60)))) for i in range(30)]
    for size, options in ((1, {}), (7, {"indent": 2}), (64, {"ensure_ascii": False})):
        monkeypatch.setattr(_json_stream, "_CHUNK", size)
        path = tmp_path / f"{size}.json"
        path.write_text("\ufeff" * (size == 7) + " \n" + json.dumps(records, **options) + "\n", "utf-8")
        reader = json_list.JsonList(Location(str(path), DataError))
        rows = list(reader.scan(stop))
        assert [row.values for row in rows] == records
        assert [reader.read(row.place) for row in rows[::-1]] == rows[::-1]


def test_many_elements_at_once_are_those_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    alphabet = 'a"\\{}[],: \n\u00e4\U0001f415'
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(40))) for _ in range(60)]
    lists: list[list[Any]] = [
        [{"id": number, "text": text} for number, text in enumerate(texts)],
        [{"id": number, "parts": [{"a": text}, {"b": {}}]} for number, text in enumerate(texts)],
        [], [{}], [1, "}, {", [], {"a": 1}, None, {"b": [{}, {}]}],
    ]  # fmt: skip
    path = tmp_path / "x.json"
    for elements in lists:
        for size, options in ((1, {}), (50, {"indent": 2}), (1000, {"separators": (",", ":")}), (10**6, {})):
            monkeypatch.setattr(_json_stream, "_CHUNK", size)
            path.write_text(json.dumps(elements, **options))  # type: ignore[arg-type]
            with Location(str(path), DataError).open(path) as file:
                stream = _json_stream.JsonStream(file, Location(str(path), DataError))
                assert [one for batch in stream.batches() for one in batch] == elements
                stream.end()
    path.write_text(json.dumps(lists[0])[:-30] + "}]")
    with Location(str(path), DataError).open(path) as file, pytest.raises(DataError, match="record 59: not valid JSON"):
        list(_json_stream.JsonStream(file, Location(str(path), DataError)).batches())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a list of records"),
        ('{\n"id": 1}', "not a list of records"),
        ("[]", "no conversations"),
        ("[ {} {}]", "record 0: the key 'conversations' is missing"),
        (json.dumps([record(0)])[:-1], "record 1: not valid JSON: it is cut off"),
        (json.dumps([record(0)])[:-1] + "x", "record 1: not valid JSON: expecting ',' or ']' at byte 93"),
        (json.dumps([record(0)]) + "x", "'x' after the end"),
        (json.dumps([record(0)])[:-1] + ",]", "record 1: not valid JSON: Expecting value at byte 94"),
        (
            json.dumps([record(0), record(1)])[:140],
            "record 1: not valid JSON: it is cut off at byte 140\n  fix: .*again",
        ),
        ('[{"id": 0, "ä": tru, "filler that goes on": ""}]', "record 0: not valid JSON: Expecting value at byte 17"),
        ("[3]", "record 0: not an object"),
        (b"[\xff]", "record 0: not valid JSON: not UTF-8"),
    ],
)
def test_what_is_no_list_is_named_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        DataSource(DataRecipe(path=str(path)))
    assert str(caught.value).startswith(str(path))


def test_a_line_that_is_broken_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(record(0))}\n\n{json.dumps(record(1))[:-1]}\n")
    with pytest.raises(DataError, match=r"x\.jsonl: line 3: not valid JSON"):
        DataSource(DataRecipe(path=str(path)))


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("w") as file:  # 60 MB
        file.write("[" + ",".join(json.dumps(record(i, "x" * 2000)) for i in range(30_000)) + "]")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(DataSource(DataRecipe(path=str(path)))) == 30_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000

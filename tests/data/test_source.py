"""What every data format promises; a new reader adds its example here."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import yaml
from PIL import Image, ImageColor
from pyarrow import parquet

from vistune.cli import main
from vistune.data.dataset import open_sources
from vistune.data.source import DataSource
from vistune.errors import DataError
from vistune.formats import formats
from vistune.recipe.training import DataRecipe

Records = list[dict[str, Any]]
READABLE = [name for name in formats.names() if formats.get(name).random_access]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


RECORDS: Records = [
    {"id": "first", "image": "a.png", "conversations": turns("<image>\nwas ist daß?", "grün", "q2", "a2")},
    {"id": "text 🐕", "image": None, "conversations": turns("q", "日本語")},
    {"id": "again", "image": "a.png", "conversations": turns("<image>\nand this?", "a")},
    {"id": "other", "image": "b/b.png", "conversations": turns("q <image>", "a")},
]


def write_json(folder: Path, records: Records) -> str:
    (folder / "x.json").write_text(json.dumps(records, ensure_ascii=False, indent=1), "utf-8")
    return str(folder / "x.json")


def write_lines(folder: Path, records: Records) -> str:
    (folder / "x.jsonl").write_text("".join(json.dumps(record) + "\n\n" for record in records))
    return str(folder / "x.jsonl")


def write_parquet(folder: Path, records: Records) -> str:
    table = pa.Table.from_pylist(records or RECORDS).slice(0, len(records))  # also without rows it has its columns
    (folder / "parquet").mkdir(exist_ok=True)
    parquet.write_table(table, folder / "parquet" / "train-0.parquet", row_group_size=2)
    return str(folder / "parquet" / "train-0.parquet")


def write_hub(folder: Path, records: Records) -> str:
    return f"hub:{Path(write_parquet(folder, records)).parent}"  # it loads folders as it does what it has downloaded


def write_saved(folder: Path, records: Records) -> str:
    shutil.rmtree(folder / "saved", ignore_errors=True)
    datasets.Dataset.from_list(records or RECORDS).select(range(len(records))).save_to_disk(folder / "saved")
    return str(folder / "saved")


def write_tar(folder: Path, records: Records) -> str:
    (folder / "tar").mkdir(exist_ok=True)
    half = len(records) // 2
    for part, some in enumerate((records[:half], records[half:])):
        with tarfile.open(folder / "tar" / f"{part}.tar", "w") as tar:
            for number, record in enumerate(some):
                row = dict(record)
                images = row.pop("bytes", [])
                add(tar, f"./{part}/{number}.json", json.dumps(row).encode())
                for place, content in enumerate(images):
                    add(tar, f"./{part}/{number}.{place}.png", content)
    return str(folder / "tar")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


WRITERS: dict[str, Callable[[Path, Records], str]] = {
    "json_list": write_json, "json_lines": write_lines, "parquet": write_parquet, "hub": write_hub,
    "saved": write_saved, "webdataset": write_tar,
}  # fmt: skip
"""For each reader what writes its example: records of LLaVA's layout in its format, to a folder; returns the path."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(folder / "a.png")
    Image.new("RGB", (6, 4), "blue").save(folder / "b" / "b.png")
    return folder


@pytest.fixture(params=READABLE)
def write(request: pytest.FixtureRequest) -> Callable[[Path, Records], str]:
    return WRITERS[request.param]


@pytest.fixture
def opened(write: Any, images: Path, tmp_path: Path) -> DataSource:
    return DataSource(DataRecipe(path=write(tmp_path, RECORDS), images=str(images)))


def test_every_record_is_read_by_its_number_in_any_order(opened: DataSource) -> None:
    assert len(opened) == len(RECORDS)
    found = [conversation.id for conversation in opened]
    assert sorted(found) == sorted(record["id"] for record in RECORDS)
    for number in (3, 0, 2, 1, 0):
        conversation = opened[number]
        record = next(record for record in RECORDS if record["id"] == conversation.id)
        assert conversation.id == record["id"]
        assert [turn.text for turn in conversation.turns] == [turn["value"] for turn in record["conversations"]]
        assert len(conversation.images) == bool(record["image"])


def test_the_key_is_that_of_the_first_image(opened: DataSource) -> None:
    keys = {conversation.id: key for conversation, key in zip(opened, opened.keys.tolist(), strict=True)}
    assert keys["first"] == keys["again"]
    assert len(set(keys.values())) == 3


def test_a_mistake_names_the_file_and_the_record(write: Any, images: Path, tmp_path: Path) -> None:
    path = write(tmp_path, [*RECORDS, {"id": "bad", "conversations": turns("q")}])
    with pytest.raises(DataError, match=r"(record|line) \S+ \(id bad\): no turn is the assistant's") as caught:
        DataSource(DataRecipe(path=path, images=str(images)))
    assert str(caught.value).startswith(path)


def test_keys_of_other_names_are_mapped(write: Any, images: Path, tmp_path: Path) -> None:
    rows = [{"file": "a.png", "question": "which, by number", "label": number} for number in range(3)]
    columns = {"image": "file", "answer": "label"}
    opened = DataSource(DataRecipe(path=write(tmp_path, rows), images=str(images), columns=columns))
    assert [one.turns[1].text for one in opened] == ["0", "1", "2"]
    assert opened[0].images == (str(images / "a.png"),)
    with pytest.raises(DataError, match="unknown key 'anser'"):
        DataSource(DataRecipe(path=write(tmp_path, rows), images=str(images), columns={"anser": "label"}))


def test_images_may_be_addresses_of_files_or_windows_paths(images: Path, tmp_path: Path) -> None:
    names = ["b\\b.png", f"file://{images}/a.png", "file://b/b.png"]
    path = write_json(tmp_path, [{"image": name, "question": "q", "answer": "a"} for name in names])
    found = [one.images[0] for one in DataSource(DataRecipe(path=path, images=str(images)))]
    assert found == [str(images / "b/b.png"), str(images / "a.png"), str(images / "b/b.png")]


def test_bad_records_may_be_skipped(write: Any, images: Path, tmp_path: Path) -> None:
    printed: list[str] = []
    bad = [{"id": f"bad{i}", "image": None, "conversations": turns("q")} for i in range(7)]
    lost = {"id": "lost", "image": "c.png", "conversations": turns("<image>q", "a")}
    data = DataRecipe(path=write(tmp_path, [*bad, RECORDS[1], lost, RECORDS[3]]), images=str(images))
    (source,) = open_sources([data], skip_bad_records=True, output=printed.append)
    assert {conversation.id for conversation in source} == {RECORDS[1]["id"], "other"}
    assert sum("no turn is the assistant's" in line for line in printed[:-1]) >= 4
    assert printed[5:] == [f"{data.path}: 8 records left out"]


def test_nothing_there_or_nothing_in_it_is_an_error(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS[1:2])
    with pytest.raises(DataError, match=r"there is no such file|cannot be read: .*gone"):
        DataSource(DataRecipe(path=path.replace(str(tmp_path), str(tmp_path / "gone"))))
    with pytest.raises(DataError, match=r"no conversations|no rows|cannot be read"):
        DataSource(DataRecipe(path=write(tmp_path, [])))


def test_a_missing_image_is_named_with_its_record(write: Any, images: Path, tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    (images / "b" / "b.png").unlink()
    with pytest.raises(DataError, match=r"(record|line) \S+ \(id other\): its image .*b/b.png is missing") as caught:
        DataSource(DataRecipe(path=path, images=str(images)))
    assert str(caught.value).startswith(path)
    with pytest.raises(DataError, match=r"its image .*png is a file\n  fix: set the stage's `images`"):
        DataSource(DataRecipe(path=path))


def test_the_digest_is_of_the_content(write: Any, tmp_path: Path) -> None:
    before = DataSource(DataRecipe(path=write(tmp_path, RECORDS[1:2]))).digest
    assert before == DataSource(DataRecipe(path=write(tmp_path, RECORDS[1:2]))).digest
    changed = [{**RECORDS[1], "conversations": turns("q", "日本人")}]
    assert before != DataSource(DataRecipe(path=write(tmp_path, changed))).digest


def as_table(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "images": [{"bytes": content, "path": "same.png"} for content in record.pop("bytes")]}


def as_uri(record: dict[str, Any]) -> dict[str, Any]:
    uris = [f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in record.pop("bytes")]
    return {**record, "image": uris}


EMBED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "json_list": as_uri, "json_lines": as_uri, "parquet": as_table, "hub": as_table, "saved": as_table,
    "webdataset": lambda record: record,
}  # fmt: skip
"""How a record of each format brings along images, given by their `bytes`."""


@pytest.mark.parametrize("name", READABLE)
def test_images_that_the_data_brings_along(name: str, tmp_path: Path) -> None:
    def png(color: str) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (2, 2), color).save(file, "png")
        return file.getvalue()

    colors = [["red", "lime"], [], ["blue"], ["red"]]
    records = [
        {
            "id": str(i),
            "bytes": [png(color) for color in some],
            "conversations": turns("<image>" * len(some) + "q", "a"),
        }
        for i, some in enumerate(colors)
    ]
    records.append({"id": "broken", "bytes": [b"no image"], "conversations": turns("<image>", "a")})
    path = WRITERS[name](tmp_path, [EMBED[name](record) for record in records])
    source = DataSource(DataRecipe(path=path))
    assert len(set(source.keys.tolist())) == 5
    for conversation in source:
        assert all(source.holds(image) for image in conversation.images)
        if conversation.id == "broken":
            with pytest.raises(DataError, match=r"(record|line) \S+, image 0: the image cannot be read") as caught:
                source.image(conversation.images[0]).open()
            assert str(caught.value).startswith(path)
        else:
            pixels = [source.image(image).open().getpixel((0, 0)) for image in conversation.images]
            assert pixels == [ImageColor.getrgb(color) for color in colors[int(conversation.id)]]


def train(folder: Path, backbones: Path, data: str, *, images: Path | None = None) -> str:
    """The hash of the weights that the command makes of the data."""
    stage = {"name": "tune", "data": data, "trains": ["projector", "language"], "epochs": 1.5, "batch_size": 4,
             "micro_batch_size": 2, "learning_rate": 1e-3, "images": images and str(images)}  # fmt: skip
    parts = {"vision_tower": f"{backbones}/vision", "language_model": f"{backbones}/language", "projector": "linear"}
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "tiny", "model": parts, "stages": [stage]}))
    assert main(["train", f"{folder}/recipe.yaml", "--out", f"{folder}/run"]) == 0
    return sha256((folder / "run" / "tune" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> tuple[Records, str]:
    """Records with the bytes of their images, and what training makes of them as files beside LLaVA's JSON."""
    folder = tmp_path_factory.mktemp("files")
    records = [{"id": str(i), "image": f"{i}.png", "conversations": turns(f"<image>q {i}", f"a {i}")} for i in range(9)]
    for number, record in enumerate(records):
        Image.new("RGB", (9, 9), (number * 20, 0, 99)).save(folder / record["image"])
    records.append({"id": "text", "image": None, "conversations": turns("how many", "two dogs")})
    weights = train(folder / "run", backbones, write_json(folder, records), images=folder)
    inside = [
        {"id": record["id"], "conversations": record["conversations"],
         "bytes": [(folder / record["image"]).read_bytes()] if record["image"] else []}
        for record in records
    ]  # fmt: skip
    return inside, weights


@pytest.mark.parametrize("name", READABLE)
def test_the_command_trains_on_every_format_to_the_same_weights(
    name: str, expected: tuple[Records, str], backbones: Path, tmp_path: Path
) -> None:
    records, weights = expected
    data = WRITERS[name](tmp_path, [EMBED[name](dict(record)) for record in records])
    assert train(tmp_path / "run", backbones, data) == weights

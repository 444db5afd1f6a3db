from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vistune.data.images import open_image, square_processor, to_pixels
from vistune.data.llava_json import read_conversations
from vistune.errors import DataError
from vistune.records import Conversation, Turn


def _turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def _write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_conversations_with_and_without_image(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    records = [
        {"id": 5, "image": "a.png", "conversations": _turns("<image>\nq", "a", "q2", "<image> is a word")},
        {"id": "t", "conversations": _turns("q", "a")},
        {"id": 7, "image": ["a.png", "b.png"], "conversations": _turns("q", "a", "<image> or <image>?", "a")},
    ]
    read = read_conversations(_write(tmp_path / "x.json", records), tmp_path)
    assert read == [
        Conversation("5", (Turn("user", "<image>\nq"), Turn("assistant", "a"), Turn("user", "q2"),
                           Turn("assistant", "<image> is a word")), ("a.png",)),
        Conversation("t", (Turn("user", "q"), Turn("assistant", "a"))),
        Conversation("7", (Turn("user", "q"), Turn("assistant", "a"), Turn("user", "<image> or <image>?"),
                           Turn("assistant", "a")), ("a.png", "b.png")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ({"id": 1}, "not a list"),
        ([], "no conversations"),
        ([3], "record 0: not an object"),
        ([{"id": "x"}], "record 0: the key 'conversations' is missing"),
        ([{"conversations": _turns("q", "a")}], "the key 'id' is missing"),
        ([{"id": "x", "conversations": [{"from": "bot", "value": "q"}]}], "unknown speaker 'bot'"),
        ([{"id": "x", "conversations": [{"from": "human"}]}], "needs the keys"),
        ([{"id": "x", "conversations": _turns("q", " ")}], "turn 1: the text is empty"),
        ([{"id": "x", "conversations": _turns("q")}], "no turn is the assistant's"),
        ([{"id": "x", "conversations": _turns("q", "a")[::-1]}], "turn 0 is out of order"),
        ([{"id": "x", "conversations": _turns("q", "a", "q")}], "the last turn is the user's"),
        ([{"id": "x", "conversations": _turns("<image>q", "a")}], "<image> without an image"),
        (
            [{"id": "x", "image": "a.png", "conversations": _turns("<image><image>", "a")}],
            "stands 2 times in it, for 1 image",
        ),
        ([{"id": "x", "image": ["a", "b"], "conversations": _turns("<image>", "a")}], "stands 1 times in it, for 2"),
        ([{"id": "x", "image": ["a", ""], "conversations": _turns("<image>", "a")}], "not a file's name, nor a list"),
        ([{"id": "x", "image": [], "conversations": _turns("<image>", "a")}], "<image> without an image"),
        ([{"id": "x", "image": "a.png", "conversations": _turns("q", "a")}], "has an image but no <image>"),
        (
            [{"id": "x", "image": "a.png", "conversations": _turns("<image>", "a")}],
            r"id x: its image .*a\.png is missing",
        ),
    ],
)
def test_each_mistake_is_named_with_its_file_and_record(tmp_path: Path, content: Any, message: str) -> None:
    path = _write(tmp_path / "bad.json", content)
    with pytest.raises(DataError, match=message) as caught:
        read_conversations(path, tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_or_corrupt_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: there is no such image"):
        open_image(tmp_path / "none.png")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"cut\.png: the image cannot be read"):
        open_image(tmp_path / "cut.png")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:900])
    with pytest.raises(DataError, match=r"half\.jpg: the image cannot be read"):
        open_image(tmp_path / "half.jpg")


def test_aspect_pads_with_the_mean_crops_or_stretches() -> None:
    tower = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": Image.Resampling.NEAREST}
    wide = Image.new("RGB", (32, 16), (255, 0, 0))
    wide.paste((0, 255, 0), (0, 0, 8, 16))
    pad, crop, stretch = (to_pixels(square_processor(tower, 8, aspect), wide) for aspect in ("pad", "crop", "stretch"))
    assert pad.shape == crop.shape == stretch.shape == (3, 8, 8)
    assert pad[:, 0].abs().max() < 0.02  # the mean colour is zero once normalised
    assert pad[0, 4, 4] == 1
    assert crop[1].max() < 0  # the green left side is cut off
    assert stretch[1, 0, 0] > 0.9
    assert stretch[1, 7, 7] == -1

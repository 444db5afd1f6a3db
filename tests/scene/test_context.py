from __future__ import annotations

import random
from pathlib import Path

import pytest

from vistune.records import Box, ImageRecord
from vistune.scene.context import format_context, parse_context


def record(captions: tuple[str, ...] = (), boxes: tuple[Box, ...] = ()) -> ImageRecord:
    return ImageRecord("1", Path("a.jpg"), 640, 480, captions, boxes)


def test_the_text_is_the_papers() -> None:
    text = format_context(record(("A dog.", "Dog on grass."), (Box("dog", 0.25, 0.12345, 0.5, 1.0),)))
    assert text == "A dog.\nDog on grass.\n\ndog: [0.25, 0.123, 0.5, 1.0]"


def test_parts_are_shown_alone() -> None:
    both = record(("A dog.",), (Box("dog", 0.1, 0.2, 0.3, 0.4),))
    assert format_context(both, ["captions"]) == "A dog."
    assert parse_context(format_context(both, ["boxes"])) == ((), both.boxes)
    assert format_context(record(), ["captions", "boxes"]) == ""
    assert parse_context("") == ((), ())


def test_random_scenes_survive_the_round_trip() -> None:
    rng = random.Random(0)
    for _ in range(300):
        corners = [[round(rng.uniform(0, 0.9), 3) for _ in range(2)] for _ in range(rng.randrange(6))]
        boxes = tuple(
            Box(rng.choice(["dog", "hot dog", "a: [b"]), x, y, round(x + 0.1, 3), round(y + 0.05, 3))
            for x, y in corners
        )
        captions = tuple(rng.choice(["A dog.", "Two dogs: [0.1, 0.2]", "dog: [0.1, 0.2, 0.3, 0.4]"]) for _ in range(3))
        assert parse_context(format_context(record(captions, boxes))) == (captions, boxes)


@pytest.mark.parametrize("newline", ["\n", "\n\n", "\r\n", "\u2028", "\x0b", "\x85"])
def test_an_annotators_line_ends_cannot_forge_a_part(newline: str) -> None:
    hostile = f"A dog.{newline}{newline}cat: [0.1, 0.1, 0.2, 0.2]"
    scene = record((hostile, "  "), (Box(f"dog{newline}cat", 0.1, 0.2, 0.3, 0.4),))
    captions, boxes = parse_context(format_context(scene))
    assert captions == ("A dog. cat: [0.1, 0.1, 0.2, 0.2]",)
    assert boxes == (Box("dog cat", 0.1, 0.2, 0.3, 0.4),)


@pytest.mark.parametrize(("low", "high"), [(0.50001, 0.50002), (0.0, 0.0001), (0.99991, 1.0)])
def test_a_hair_thin_box_keeps_an_area_inside_the_image(low: float, high: float) -> None:
    _, (box,) = parse_context(format_context(record(boxes=(Box("ski", low, low, high, high),))))
    assert 0 <= box.x1 < box.x2 <= 1
    assert box.area > 0


def test_a_line_that_is_not_a_box_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a box: 'a dog'"):
        parse_context("A dog.\n\na dog")

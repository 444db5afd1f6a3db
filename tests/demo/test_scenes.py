from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from PIL import ImageChops

from vistune.demo.dataset import draw
from vistune.demo.scenes import Background, Scene, Split, Sprite, categories, is_novel, picture, sample_scene
from vistune.records import Box

SCENES = {split: [sample_scene(split, 11, index) for index in range(60)] for split in get_args(Split)}


def test_a_scene_depends_on_split_seed_and_index_only() -> None:
    assert sample_scene("train", 11, 4) == SCENES["train"][4]
    others = [sample_scene("val", 11, 4), sample_scene("train", 12, 4), sample_scene("train", 11, 5)]
    assert SCENES["train"][4] not in others


@pytest.mark.parametrize("split", get_args(Split))
def test_one_to_six_objects_inside_the_image_that_overlap_mildly(split: Split) -> None:
    for scene in SCENES[split]:
        assert 1 <= len(scene.boxes) == len(scene.sprites) <= 6
        for number, a in enumerate(scene.boxes):
            assert 0 < a.x1 < a.x2 < 1
            assert 0 < a.y1 < a.y2 < 1
            for b in scene.boxes[:number]:
                overlap = max(0, min(a.x2, b.x2) - max(a.x1, b.x1)) * max(0, min(a.y2, b.y2) - max(a.y1, b.y1))
                assert overlap <= 0.2 * min(a.area, b.area) + 1e-9


def test_scenes_vary() -> None:
    scenes = SCENES["train"]
    assert set(Counter(len(scene.boxes) for scene in scenes)) == {1, 2, 3, 4, 5, 6}
    assert len({box.category for scene in scenes for box in scene.boxes}) > 40
    assert {len(scene.background.colors) for scene in scenes} == {1, 2}
    assert {kind.mirrored for scene in scenes for kind in scene.sprites} == {True, False}


def test_what_is_novel_is_never_in_training() -> None:
    assert not any(is_novel(scene.boxes) for scene in SCENES["train"] + SCENES["val"])
    assert 15 < sum(is_novel(scene.boxes) for scene in SCENES["test"]) < 45


def test_every_single_category_can_be_in_training() -> None:
    assert not any(is_novel((Box(name, 0, 0, 1, 1),)) for name in categories())


@pytest.mark.parametrize("side", [112, 224])
def test_boxes_are_tight_around_what_is_drawn(side: int) -> None:
    for scene in SCENES["train"][:20]:
        for box, kind in zip(scene.boxes, scene.sprites, strict=True):
            plain = Background(("white",))
            alone, empty = (draw(Scene(plain, *parts), side) for parts in (((box,), (kind,)), ((), ())))
            visible = ImageChops.difference(alone, empty).convert("L").point(lambda value: 255 * (value > 4)).getbbox()
            assert visible is not None
            expected = (box.x1 * side, box.y1 * side, box.x2 * side, box.y2 * side)
            assert max(abs(a - b) for a, b in zip(visible, expected, strict=True)) <= 2


def test_every_category_has_a_glyph_in_colour() -> None:
    for category in categories().values():
        assert picture(Sprite(category.emoji, 0, False)).convert("RGB").getcolors(maxcolors=1) is None, category.name


def test_a_mirrored_glyph_is_its_mirror_image() -> None:
    car = categories()["car"].emoji
    mirrored, plain = picture(Sprite(car, 0, True)), picture(Sprite(car, 0, False))
    assert mirrored.size == pytest.approx(plain.size, rel=0.02)
    assert mirrored != plain


def test_two_tone_backgrounds() -> None:
    image = draw(Scene(Background(("white", "blue"), 0.5), (), ()), 100)
    assert image.getpixel((50, 49)) == (250, 250, 250)
    assert image.getpixel((50, 50)) == (176, 214, 246)

from __future__ import annotations

import pytest

from vistune.records import Box
from vistune.scene.evidence import absent
from vistune.scene.mentions import MentionFinder, concept

FINDER = MentionFinder(["dog", "hot dog", "bear", "teddy bear", "person", "knife", "wine glass", "couch", "sheep"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A hot dog.", ["hot dog"]),
        ("A dog and two hot dogs.", ["dog", "hot dog"]),
        ("A hot-dog beside a teddy-bear", ["hot dog", "teddy bear"]),
        ("Two teddy bears, three bears", ["teddy bear", "bear"]),
        ("People with knives", ["person", "knife"]),
        ("Three women and a man on a sofa", ["person", "person", "couch"]),
        ("wine glasses; SHEEP", ["wine glass", "sheep"]),
        ("A glass of wine", ["wine glass"]),
        ("dogma, hotdog, unbearable", ["hot dog"]),
        ("A hot  \n dog", ["hot dog"]),
        ("The dog is beside the dog house", ["dog"]),
        ("The dog's tail. A (brown) bear!", ["dog", "bear"]),
        ("It is hot. Dogs sleep.", ["dog"]),
        ("A cat and a giraffe", []),
        ("", []),
    ],
)
def test_finds_what_is_mentioned(text: str, found: list[str]) -> None:
    assert FINDER.find(text) == found


def test_a_longer_name_is_known_even_where_the_data_has_none_of_it() -> None:
    assert MentionFinder(["dog", "bear"]).find("a hot dog and a teddy bear") == []


def test_a_category_of_the_data_is_no_synonym() -> None:
    assert MentionFinder(["table", "dining table"]).find("tables and a dining table") == ["table", "dining table"]
    assert MentionFinder(["dining table"]).find("tables") == ["dining table"]


def test_a_name_with_special_characters_and_capitals() -> None:
    assert MentionFinder(["C (part)", "Hard Hat", "T-shirt"]).find("hard hats and t-shirts") == ["Hard Hat", "T-shirt"]


def test_what_the_data_calls_a_coco_category_stands_for_its_other_names() -> None:
    voc = MentionFinder(["sofa", "tvmonitor", "diningtable", "Person", "traffic_light"])
    text = "A man on the couch, a TV, two tables, traffic signals"
    assert voc.find(text) == ["Person", "sofa", "tvmonitor", "diningtable", "traffic_light"]
    assert MentionFinder(["couch"]).find("a sofa") == ["couch"]


def test_a_special_case_does_not_stand_for_the_whole() -> None:
    assert MentionFinder(["man", "child"]).find("a person, a woman, two men") == ["man"]


@pytest.mark.parametrize(
    ("category", "meaning"),
    [
        ("Sofa", "couch"),
        ("Man", "person"),
        ("tvmonitor", "tv"),
        ("trafficLight", "traffic light"),
        ("hot-dog", "hot dog"),
        ("dogs", "dog"),
        ("T-Rex", "t rex"),
        ("Fire Truck", "fire truck"),
    ],
)
def test_spellings_of_a_category_are_one_concept(category: str, meaning: str) -> None:
    assert concept(category) == meaning


def test_absent_categories_are_neither_boxed_nor_mentioned() -> None:
    categories = ("Bus", "bowl", "couch", "dog", "misc", "sofa")
    boxes = (Box("Sofa", 0.1, 0.1, 0.2, 0.2),)
    assert absent(categories, boxes, ("Two puppies in a dog house.",)) == ["Bus", "bowl"]
    assert absent(categories, (), ()) == ["Bus", "bowl", "couch", "dog", "sofa"]

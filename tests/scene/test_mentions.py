from __future__ import annotations

import pytest

from vistune.scene.mentions import MentionFinder

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

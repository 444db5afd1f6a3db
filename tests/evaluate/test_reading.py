from __future__ import annotations

import pytest

from vistune.evaluate.reading import read_answer
from vistune.scene.facts import POSITIONS
from vistune.scene.mentions import MentionFinder

FINDER = MentionFinder(["dog", "cat", "hot dog", "teddy bear", "bear", "cell phone"])


def read(kind: str, text: str, question: str = "") -> str | None:
    said, how = read_answer(kind, text, question, FINDER)
    assert how
    return said


@pytest.mark.parametrize("kind", ["existence", "count", "position", "relation", "category"])
@pytest.mark.parametrize("text", ["", "  \n", "...", "?!"])
def test_nothing_is_no_answer(kind: str, text: str) -> None:
    assert read_answer(kind, text, "", FINDER) == (None, "is empty")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", "yes"),
        ("yes, there is a dog", "yes"),
        ("No, there is no dog. Yes.", "no"),
        ("**No**", "no"),
        ("There is a dog.", None),
        ("Yesterday", None),
        ("None", None),
        ("Not sure, yes", None),
    ],
)
def test_yes_or_no_is_the_first_word(text: str, said: str | None) -> None:
    assert read("existence", text) == read("relation", text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Two.", "two"),
        ("2", "two"),
        ("02", "two"),
        ("There are three dogs.", "three"),
        ("There are 3 dogs and one cat", "three"),
        ("12 dogs", "12"),
        ("There are no dogs.", "zero"),
        ("Someone has dogs", None),
        ("There are dogs", None),
    ],
)
def test_a_count_is_the_first_number(text: str, said: str | None) -> None:
    assert read("count", text) == said


@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_is_read_as_itself(position: str) -> None:
    assert read("position", position) == position
    assert read("position", f"The dog is at the {position.upper()} of the image.") == position


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("In the upper left corner.", "top left"),
        ("On the left, in the lower part", "bottom left"),
        ("In the middle of the picture", "center"),
        ("middle-right", "right"),
        ("At the top center", "top"),
        ("It is on the right-hand side.", "right"),
        ("It is in the center. To its left is a cat.", "center"),
        ("At the top, to the left of the cat", "top"),
        ("To the left of the cat", None),
        ("To the left of the image", "left"),
        ("On the right side of the dog, at the bottom right of the picture", "bottom right"),
        ("top left or top right", None),
        ("from top to bottom", None),
        ("somewhere", None),
    ],
)
def test_a_position_is_the_region_told(text: str, said: str | None) -> None:
    assert read("position", text) == said


@pytest.mark.parametrize(
    ("text", "question", "said"),
    [
        ("A dog.", "What is at the top?", "dog"),
        ("Dog", "What is at the top?", "dog"),
        ("Hot dogs", "What is at the top?", "hot dog"),
        ("It is a teddy bear", "", "teddy bear"),
        ("To the left of the cat is a dog.", "What is to the left of the cat?", "dog"),
        ("The cat.", "What is to the left of the cat?", None),
        ("A mobile phone and a dog", "", "cell phone"),
        ("A zeppelin", "", None),
    ],
)
def test_a_category_is_the_first_that_was_not_asked_about(text: str, question: str, said: str | None) -> None:
    assert read("category", text, question) == said

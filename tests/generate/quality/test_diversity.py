from __future__ import annotations

import pytest

from vistune.generate.quality.actions import Actions
from vistune.generate.quality.coverage import Coverage
from vistune.generate.quality.diversity import Diversity, distinct
from vistune.records import Turn


def test_distinct_n_by_hand() -> None:
    assert distinct(["The dog and the cat.", "the dog"]) == {
        "distinct_1": round(4 / 7, 4), "distinct_2": round(4 / 5, 4), "distinct_3": 1.0
    }  # fmt: skip
    assert distinct([]) == {"distinct_1": None, "distinct_2": None, "distinct_3": None}


def test_distinct_n_does_not_depend_on_how_much_there_is() -> None:
    words = [f"w{number % 700} w{number % 90} w{number % 11}" for number in range(40_000)]
    assert distinct(words[:20_000]) == distinct(words)


def test_first_words_and_actions_are_shares_of_all() -> None:
    diversity = Diversity()
    for number, question in enumerate(
        ["What is the man holding?", "What are the men holding?", "How many dogs?", "\u2026"]
    ):
        diversity.add(str(number), (Turn("user", question), Turn("assistant", "A \u201ccup\u201d.")))
    figures = diversity.to_dict()
    assert figures["questions"]["first_words"] == {"what": 0.5, "": 0.25, "how": 0.25}
    assert figures["answers"]["first_words"] == {"a": 1.0}
    assert figures["actions"] == {"hold man": 0.6667, "be dog": 0.3333}
    assert figures["different_actions"] == 2


@pytest.mark.parametrize(
    ("question", "action"),
    [
        ("Describe the image in detail.", ("describe", "image")),
        ("What color is the dog?", ("be", "color")),
        ("How many people are in the picture?", ("be", "person")),
        ("What is the woman wearing on her head?", ("wear", "head")),
        ("Is the child riding a bicycle?", ("ride", "bicycle")),
        ("Where are the two trains parked?", ("park", "train")),
        ("Why might someone carry an umbrella?", ("carry", "umbrella")),
        ("Can you explain the visual content of the scene?", ("explain", "content")),
        ("What is on the watch?", ("be", "watch")),
        ("Why?", None),
        ("", None),
    ],
)
def test_the_action_of_a_question(question: str, action: tuple[str, str] | None) -> None:
    assert Actions().find(question) == action


def test_coverage_counts_whole_words() -> None:
    coverage = Coverage()
    assert coverage.share() is None
    coverage.add(
        ["hot dog", "cat", "wine glass", "bus", "person"], ["Two hot-dogs, a CATALOGUE,", "a wine  glass; buses."]
    )
    assert (coverage.named, coverage.boxed) == (3, 5)

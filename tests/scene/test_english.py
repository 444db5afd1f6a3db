from __future__ import annotations

from pathlib import Path

from vistune.scene.english import counted, plural, singular, with_article


def test_plurals_and_articles_of_three_hundred_nouns() -> None:
    lines = (Path(__file__).parent / "nouns.txt").read_text("utf-8").splitlines()
    wrong, number = [], 0
    for line in lines:
        if line.startswith("#"):
            continue
        head, _, several = line.partition(" | ")
        one, _, category = head.partition(": ")
        category = category or one.partition(" ")[2]
        number += 1
        if (with_article(category), plural(category)) != (one, several):
            wrong.append((category, with_article(category), plural(category)))
    assert number >= 300
    assert len(wrong) <= 0.01 * number, wrong


def test_a_plural_only_noun_is_counted_in_pairs() -> None:
    assert [counted("scissors", n) for n in (1, 2)] == ["a pair of scissors", "two pairs of scissors"]
    assert [counted("Platelets", n) for n in (1, 2)] == ["a Platelet", "two Platelets"]
    assert singular("pair of scissors") == "pair of scissors"
    assert plural("pairs of scissors") == "pairs of scissors"

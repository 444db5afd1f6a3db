"""The mini LM's last lesson is true, of training scenes only, and asks for no fact twice."""

from __future__ import annotations

import re

from tools.pretrain_mini.corpus import ASSISTANT, END, USER
from tools.pretrain_mini.practice import practice, practice_scene
from vistune.demo.scenes import is_novel
from vistune.scene.english import NUMBERS, plural
from vistune.scene.facts import counts

DOCUMENTS = [practice(5, index) for index in range(400)]


def test_its_scenes_hold_nothing_that_is_set_apart_and_many_repeats() -> None:
    scenes = [practice_scene(5, index) for index in range(100)]
    assert not any(is_novel(scene.boxes) for scene in scenes)
    assert sum(max(counts(scene.boxes).values()) > 2 for scene in scenes) > 25


def test_tallies_tell_the_cells_that_they_count() -> None:
    seen = 0
    for index, one in enumerate(DOCUMENTS):
        if one.pieces[2][0] != f"\nWhere and how many?{END}{ASSISTANT}":
            continue
        found = counts(practice_scene(5, index // 4).boxes)
        for (asked, _), (answer, _) in zip(one.pieces[3:-1:2], one.pieces[4::2], strict=False):
            number = NUMBERS.index(answer.strip(" .").split()[-1])
            assert number == found[asked.strip()] == len(re.findall("[A-H] [1-8]", answer))
            seen += 1
    assert seen > 20


def test_dialogues_count_each_thing_once_and_rightly() -> None:
    seen = 0
    for index, one in enumerate(DOCUMENTS):
        turns = re.findall(
            f"(?:{re.escape(USER)}|\n)([^<]*){re.escape(END + ASSISTANT)}([^<]*){re.escape(END)}", one.text
        )
        found = counts(practice_scene(5, index // 4).boxes)
        asked = [(question, answer) for question, answer in turns if re.search("(?i)how many|number|count ", question)]
        told = [(name, answer) for name in found for question, answer in asked if f" {plural(name)}" in question]
        for name, answer in told:
            assert NUMBERS[found[name]] in answer.lower()
        assert len(told) == len({name for name, _ in told}) or "all" in one.text
        seen += len(told)
    assert seen > 200

"""Pairs of answers, against the reader of `test_truth`: the chosen ones are true of the boxes and the others false."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scene.test_truth import NAME, normal, pairs_about, scene, things_in, wrong
from vistune.data.dataset import open_sources
from vistune.generate import GenerateRecipe, generate
from vistune.generate.filters import Sample
from vistune.generate.kinds import Kind, Prompts
from vistune.generate.pairs import Balance, Preference, preferences
from vistune.llm import Client, Reply, Request
from vistune.recipe.training import DataRecipe
from vistune.records import Box, ImageRecord, Turn

RECORD = ImageRecord(
    "1", Path("1.jpg"), captions=("Two dogs and a cat.",),
    boxes=(Box("dog", 0.1, 0.1, 0.2, 0.2), Box("dog", 0.1, 0.7, 0.2, 0.8), Box("cat", 0.8, 0.8, 0.9, 0.9)),
)  # fmt: skip
OWN = ("cat", "dog", "horse")
MIRROR = {"left": "right", "right": "left", "above": "below", "below": "above"}


@pytest.fixture(scope="module")
def conversation() -> Kind:
    return Prompts().load("conversation")


def _pairs(kind: Kind, *texts: str, vocabulary: tuple[str, ...] = OWN, seed: int = 0) -> list[Preference]:
    turns = tuple(Turn(("user", "assistant")[at % 2], text) for at, text in enumerate(texts))
    return list(preferences(Sample(kind, RECORD, turns, vocabulary), seed, "1.jpg"))


def _is_false(question: str, answer: str, *facts: Any) -> bool:
    """By the reader, which also gets what it does not read as it reads it."""
    if answer.startswith("Yes") and len(things_in(question)) == 1:
        question, answer = "What is it?", f"There is a {things_in(question)[0]}."
    mirrored = " ".join(MIRROR.get(word, word) for word in normal(question).split())
    denies_what_holds = answer.startswith("No") and wrong(mirrored, "Yes.", *facts)
    placed = re.sub(rf"\b(?:an?|the) ({NAME})(?: is)? (at|on|in) the", r"the \1 is \2 the", normal(answer))
    placed = re.sub(rf"\b((?:at|on|in) the [a-z ]+) there is an? ({NAME})\b", r"the \2 is \1", placed)
    return bool(wrong(question, answer, *facts) or denies_what_holds or wrong(question, placed, *facts))


def test_of_random_scenes_every_chosen_answer_is_true_and_every_rejected_one_false(conversation: Kind) -> None:
    reasons: Counter[str] = Counter()
    texts = set()
    for seed in range(150):
        record, vocabulary, present = scene(seed)
        own = {things_in(name)[0] for name in vocabulary}
        for question, answer in pairs_about(record, vocabulary):
            turns = (Turn("user", question), Turn("assistant", answer))
            for pair in preferences(Sample(conversation, record, turns, vocabulary), seed, "1.jpg"):
                facts = record, present, own
                assert wrong(question, pair.chosen, *facts) == []
                assert _is_false(question, pair.rejected, *facts), (pair, record)
                reasons[pair.reason] += 1
                texts.add(pair.rejected)
    assert min(reasons[name] for name in ("ungrounded", "wrong_count", "wrong_place", "wrong_absence")) > 20
    assert len(texts) > 100


@pytest.mark.parametrize(
    ("question", "answer", "reason", "false"),
    [
        ("How many dogs are there?", "Two.", "wrong_count", {"One.", "Three.", "Four."}),
        ("How many cats are there?", "There is one cat.", "wrong_count",
         {"There are two cats.", "There are three cats."}),
        ("Is there a horse in the image?", "No, I cannot see a horse.", "ungrounded", {"Yes, I can see a horse."}),
        ("Are there any horses?", "No.", "ungrounded", {"Yes."}),
        ("Is there a cat here?", "Yes, there is a cat.", "wrong_absence", {"No, there is no cat."}),
        ("Where is the cat?", "At the bottom right.", "wrong_place", {"At the top right.", "At the bottom left."}),
        ("What is at the bottom right?", "A cat.", "ungrounded", {"A horse."}),
        ("What is in the image?", "Two dogs.", "ungrounded", {"Two horses."}),
    ],
)  # fmt: skip
def test_one_thing_is_made_false(conversation: Kind, question: str, answer: str, reason: str, false: set[str]) -> None:
    found = {pair for seed in range(12) for pair in _pairs(conversation, question, answer, seed=seed)}
    assert {pair.rejected for pair in found if pair.reason == reason} == false
    assert {(pair.prompt, pair.chosen) for pair in found} == {((Turn("user", question),), answer)}


def test_what_the_boxes_do_not_know_gives_no_pair(conversation: Kind) -> None:
    assert _pairs(conversation, "What color is the cat?", "Black, and it looks tired.") == []
    assert _pairs(conversation, "How many dogs are there?", "Three.") == []  # not true itself
    assert _pairs(conversation, "Is there a horse?", "No.", vocabulary=()) == []  # not everything has a box
    spanish = replace(conversation, language="es")
    assert _pairs(spanish, "How many dogs are there?", "Two.") == []


def test_earlier_turns_are_the_prompt(conversation: Kind) -> None:
    texts = ("What is it?", "A picture.", "How many dogs are there?", "Two.")
    [pair] = _pairs(conversation, *texts)
    assert [turn.text for turn in pair.prompt] == [*texts[:3]]


def test_a_yes_is_true_as_often_as_a_no(conversation: Kind) -> None:
    asked = [("Is there a cat?", "Yes."), ("Is there a horse?", "No."), ("Are there any dogs?", "Yes."),
             ("Is there a dog?", "Yes, there is a dog."), ("How many dogs are there?", "Two."),
             ("Are there horses?", "No.")]  # fmt: skip
    balance = Balance()
    written = [
        (id_, pair.chosen)
        for number, texts in enumerate(asked)
        for id_, pair in balance.add(str(number), *_pairs(conversation, *texts))
    ]
    assert written == [("0", "Yes."), ("1", "No."), ("4", "Two."), ("2", "Yes."), ("5", "No.")]


class _Teacher(Client):
    """A language model's way to write."""

    name = "fluent"

    async def complete(self, _: Request) -> Reply:
        text = "Question:\nWhat do you see?\n===\nAnswer:\nThere are two dogs in the image, resting next to a cat."
        return Reply(text, self.name)


def test_a_run_writes_pairs_that_a_stage_can_learn_from(tmp_path: Path, quiet: Console) -> None:
    (tmp_path / "1.jpg").touch()
    records = [replace(RECORD, id=str(n), image=tmp_path / "1.jpg") for n in range(20)]
    records.append(replace(records[0], id="horse", captions=(), boxes=(Box("horse", 0.1, 0.1, 0.9, 0.9),)))
    recipe = GenerateRecipe(kinds="conversation", pairs=True, images=str(tmp_path), keep_duplicates=True)
    report = generate(recipe, tmp_path / "out", records=records, client=_Teacher(), console=quiet)
    path = tmp_path / "out/pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0].keys() == {"id", "kind", "reason", "images", "prompt", "chosen", "rejected"}
    assert Counter(row["reason"] for row in rows) == report.preferences
    assert report.preferences.keys() == {"ungrounded", "wrong_count"}
    content = json.loads((tmp_path / "out/report.json").read_text())
    assert content["preferences"] == dict(report.preferences)
    assert f"{len(rows)} pairs of a true and a false answer" in (tmp_path / "out/report.html").read_text()
    [source] = open_sources([DataRecipe(path=str(path), images=str(tmp_path))])
    assert source.pairs == len(source) == len(rows) == 20
    assert source[0].turns[0].text == "<image>\nWhat do you see?"
    before = path.read_bytes()
    generate(recipe, tmp_path / "out", records=records, client=_Teacher(), console=quiet)
    assert path.read_bytes() == before
    generate(
        recipe.model_copy(update={"pairs": False}), tmp_path / "out", records=records, client=_Teacher(), console=quiet
    )
    assert not path.exists()

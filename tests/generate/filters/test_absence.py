"""Stated absences against boxes, captions, and what the data annotates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vistune.generate.filters import Sample
from vistune.generate.filters.absence import wrong_absence
from vistune.generate.kinds import Prompts
from vistune.records import Box, ImageRecord, Turn

ROOM = ImageRecord(
    "room",
    Path("room.jpg"),
    captions=("A brown dog sleeps next to a lamp.", "A woman looks at the dog from the window."),
    boxes=(
        Box("Dog", 0.1, 0.2, 0.3, 0.4), Box("tvmonitor", 0.5, 0.2, 0.8, 0.6), Box("Person", 0.8, 0, 1, 1),
        Box("traffic_light", 0.2, 0, 0.3, 0.1), Box("Platelets", 0.4, 0.4, 0.5, 0.5),
    ),
)  # fmt: skip
OWN = ("Cat", "Dog", "Person", "Platelets", "RBC", "diningtable", "traffic_light", "tvmonitor")


def sample(answer: str, question: str = "What can you see?", own: tuple[str, ...] | None = OWN) -> Sample:
    turns = (Turn("user", question), Turn("assistant", answer))
    return Sample(Prompts().load("conversation"), ROOM, turns, own)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a dog in the image?", "No."),
        ("Are there any dogs?", "No, there are no dogs in the image."),
        ("Can you see a TV?", "No, I cannot see a TV."),
        ("Is there any television in the scene?", "No, there is none."),
        ("Are there traffic lights in this photo?", "No."),
        ("Does the picture show any people?", "No, there are no people."),
        ("Is there a platelet?", "No, there is no platelet."),
        ("Is there a lamp in the picture?", "No."),
        ("What can you see?", "There are no dogs in the image."),
        ("What can you see?", "The room is quiet. I can't see any people here."),
        ("What can you see?", "The image does not show a traffic light."),
        ("What can you see?", "No dogs are visible in the scene."),
        ("Is there a woman in the image?", "No."),
        # the data does not annotate these
        ("Is there a kangaroo in the image?", "No, there is no kangaroo."),
        ("Are there any bottles?", "No, there are no bottles in the image."),
        ("Do you see a potted plant?", "No."),
    ],
)
def test_a_denial_of_what_is_shown_or_was_not_looked_for(question: str, answer: str) -> None:
    assert wrong_absence(sample(answer, question))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a cat in the image?", "No, there is no cat."),
        ("Are there any RBCs?", "No."),
        ("Can you see a dining table?", "No, I cannot see a dining table."),
        ("Is there a man in the image?", "No, there is no man."),
        ("Is there a dog on the sofa?", "No, it is on the floor."),
        ("Is there a dog next to the cat?", "No."),
        ("Are there other people?", "No, there are no other people in the image."),
        ("Is there anything else?", "No."),
        ("Is the dog awake?", "No, the dog is asleep."),
        ("What can you see?", "There is no dog on the bench."),
        ("What can you see?", "The dog has no collar, and there is no reason to worry."),
        ("Is there a dog in the image?", "Yes, there is a dog."),
    ],
)
def test_other_denials_pass(question: str, answer: str) -> None:
    assert not wrong_absence(sample(answer, question))


def test_what_nobody_looked_for_may_be_denied_by_who_sees_it_or_is_told() -> None:
    asked = sample("No, there is no bottle.", "Is there a bottle?")
    assert wrong_absence(asked)
    assert not wrong_absence(replace(asked, kind=replace(asked.kind, sees=True)))
    assert not wrong_absence(replace(asked, record=replace(ROOM, captions=("An empty room with a dog.",))))
    assert not wrong_absence(replace(asked, vocabulary=None))
    assert wrong_absence(replace(asked, vocabulary=()))

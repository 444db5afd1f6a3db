"""What a text states against boxes and captions: objects, counts, places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.generate.filters import Sample
from vistune.generate.filters.counting import wrong_count
from vistune.generate.filters.grounding import ungrounded
from vistune.generate.filters.placing import wrong_place
from vistune.generate.kinds import Prompts
from vistune.records import Box, ImageRecord, Turn

ROOM = ImageRecord(
    "room",
    Path("room.jpg"),
    captions=("A brown dog sleeps next to a red chair in a living room.", "The dog is lying on a red rug."),
    boxes=(Box("dog", 0.1, 0.2, 0.3, 0.4), Box("chair", 0.5, 0.2, 0.8, 0.6)),
)
FIELD = ImageRecord(
    "field",
    Path("field.jpg"),
    captions=("Three zebras graze near a bus.", "A dog and zebras.", "A woman with three zebras."),
    boxes=(
        *(Box("zebra", x, 0.5, x + 0.1, 0.6) for x in (0.1, 0.3, 0.5)),
        Box("bus", 0.7, 0.1, 0.95, 0.3),
        Box("dog", 0.05, 0.7, 0.2, 0.9),
        Box("person", 0.4, 0.1, 0.5, 0.9),
    ),
)


def sample(record: ImageRecord, answer: str, question: str = "What can you see?") -> Sample:
    return Sample(Prompts().load("conversation"), record, (Turn("user", question), Turn("assistant", answer)))


INVENTED = [
    "A cat lies beside the dog.",
    "The dog plays with a cat.",
    "There's also a television in the corner.",
    "Behind the dog, a clock hangs on the wall.",
    "Two bowls stand on the floor.",
    "The room is furnished with a couch... and a large bed stands in the corner.",
    "I can see a bicycle leaning against the wall.",
    "A man is sitting in the chair.",
    "A child is playing with the dog.",
    "Several people are standing around the dog.",
    "A book lies open on the chair.",
    "The dog sleeps under an umbrella.",
    "The dog wears a tie.",
    "On the chair, there is a laptop.",
    "The dog is next to a sheep.",
    "A few cars can be seen through the window.",
    "The window looks out on a street with parked cars.",
    "The dog is carrying a frisbee in its mouth.",
    "The brown dog lies between the chair and the refrigerator.",
    "Its head rests on a teddy bear.",
    "A vase with flowers decorates the room.",
    "You can also spot a pair of skis by the door.",
    "The dog is looking at the cat.",
    "The cat is white.",
    "A horse stands outside.",
    "The dog watches two birds on the sill.",
    "An open suitcase is lying on the rug.",
    "The rug is littered with bottles.",
]

NOT_STATED = [
    "The dog is as big as a horse.",
    "The dog is as calm as a cat.",
    "The dog is not a cat.",
    "Dogs and cats often share a home.",
    "A dog like this one makes a good companion for people.",
    "The dog may be waiting for a person.",
    "The dog was probably left by its owner.",
    "People like dogs.",
    "A person could sit in the chair.",
    "There is no cat to be seen.",
    "The dog bed looks soft.",
    "The dog is dreaming of a bird.",
    "The dog may have been to the park by car.",
    "It is time for bed.",
    "The dog goes to bed early.",
    "The light has an orange tone.",
    "It is an orange and brown rug.",
    "He would love a car ride.",
    "No person is in the chair.",
    "A dog needs a bowl of water.",
    "The chair has a back like a boat.",
    "The viewer can imagine a TV in front of the chair.",
    "The rug shows a picture of a bear.",
    "The cushion in the shape of a banana is yellow.",
    "The dog could be a present for the child.",
    "A fluffy cat-like tail hangs down.",
    "A clockwise pattern decorates the rug.",
    "The person taking the picture stands close.",
    "It takes up a table's worth of space.",
    "The dog waits at the foot of the chair for a ball.",
    "The dog does not care whether a person comes.",
    "It is a watch dog.",
    "Like a lazy cat, the dog enjoys the sun.",
]

MISCOUNTED = [
    "A total of six zebras are standing in the grass.",
    "Altogether, six zebras are visible.",
    "You can count six zebras.",
    "Six zebras are in the picture.",
    "Two zebras can be seen in the image.",
    "Exactly two dogs sleep on the grass.",
    "Both dogs are asleep.",
    "A pair of dogs lies on the grass.",
    "There are only two zebras in the picture.",
    "Four large zebras are grazing.",
    "Next to the bus stand two women.",
    "Two buses are parked on the road.",
    "A flock of five zebras is grazing.",
    "The picture contains 5 zebras.",
    "The two dogs look at each other.",
    "There appear to be four zebras.",
    "He watches four zebras.",
    "One can see two buses, one behind the other.",
    "Around them are seven zebras.",
]

COUNTED_OR_NOT_ALL = [
    "Two zebras are lying down.",
    "There are three zebras.",
    "One of the zebras looks up.",
    "There is one woman and one dog.",
    "One zebra is grazing.",
    "There are two zebras on the left.",
    "Two more zebras would fit in.",
    "The bus has two doors, and three zebras walk by.",
    "There are two zebras and a third one behind them.",
    "There are about four zebras.",
]

MISPLACED = [
    "The bus is left of the dog.",
    "The bus stands to the left of the dog.",
    "To the left of the dog there is a bus.",
    "To the right of the bus is a dog.",
    "On the left side of the picture, a bus is parked.",
    "In the left half of the image you can see a bus.",
    "The bus is at the left edge of the picture.",
    "The bus can be found on the left-hand side of the picture.",
    "The bus is in the bottom left corner of the image.",
    "A bus is visible in the lower left corner of the picture.",
    "The dog is above the bus.",
    "The dog lies above the bus.",
    "Above the bus, there is a dog.",
    "The bus is below the dog.",
    "At the top of the image, a dog is lying.",
    "The dog is at the top.",
    "The dog is on the right.",
    "On the right, there is a dog.",
    "On the right stands a dog.",
    "The brown dog is positioned to the right of the large bus.",
    "A dog appears on the right side of the scene.",
    "There is a dog on the right side of the image.",
    "I see a dog to the right of the bus.",
    "The dog, to the right of the bus, is asleep.",
    "The bus is located on the far left.",
    "The bus is on the left side.",
    "The dog can be seen in the upper part of the image.",
    "The dog is in the top right.",
]

PLACED_OR_NOT_JUDGED = [
    "The dog is to the left of the bus.",
    "The bus is above the dog.",
    "On the left, there is a dog.",
    "The dog is at the bottom.",
    "On the right side of the dog there is a toy.",
    "The bus has a sign on the left.",
    "The dog looks at something on the right.",
    "The dog is not on the right.",
    "The woman stands at the right of the dog.",
    "The bus is in the top right corner.",
    "A bus on the right passes a dog.",
    "There are trees on the left of the bus.",
    "A bus with a dog painted on the left side of it.",
    "The bus turns to the left.",
    "The dog lies at the left, the bus is at the right.",
    "The door of the bus is on the left.",
    "On the left, the grass is higher, and the bus casts a shadow.",
    "On the left, next to the bus, there is a tree.",
]


@pytest.mark.parametrize(
    ("rejects", "record", "wrong", "right"),
    [
        (ungrounded, ROOM, INVENTED, NOT_STATED),
        (wrong_count, FIELD, MISCOUNTED, COUNTED_OR_NOT_ALL),
        (wrong_place, FIELD, MISPLACED, PLACED_OR_NOT_JUDGED),
    ],
)
def test_what_contradicts_the_annotations_is_found_and_nothing_else(
    rejects: Callable[[Sample], bool], record: ImageRecord, wrong: list[str], right: list[str]
) -> None:
    assert [answer for answer in wrong if not rejects(sample(record, answer))] == []
    assert [answer for answer in right if rejects(sample(record, answer))] == []


def test_a_yes_affirms_the_question() -> None:
    assert ungrounded(sample(ROOM, "Yes.", "Is there a cat in the image?"))
    assert not ungrounded(sample(ROOM, "No.", "Is there a cat in the image?"))
    assert wrong_place(sample(FIELD, "Yes, it is.", "Is the dog to the right of the bus?"))
    assert wrong_count(sample(FIELD, "Two.", "How many zebras are there?"))
    assert not wrong_count(sample(FIELD, "Two.", "How many zebras are lying down?"))


def test_without_boxes_nothing_is_judged() -> None:
    record = replace(ROOM, boxes=())
    assert not any(
        rejects(sample(record, "Two cats are on the left.")) for rejects in (ungrounded, wrong_count, wrong_place)
    )


def test_crowds_and_captions_that_disagree_are_not_counted() -> None:
    zebras = tuple(replace(box, crowd=True) for box in FIELD.boxes)
    assert not wrong_count(sample(replace(FIELD, boxes=zebras), "There are six zebras."))
    assert not wrong_count(sample(replace(FIELD, captions=("Six zebras in a field.",)), "There are six zebras."))


def test_counts_and_places_do_not_depend_on_the_spelling_of_categories() -> None:
    field = replace(FIELD, boxes=tuple(replace(box, category=box.category.title()) for box in FIELD.boxes))
    assert wrong_count(sample(field, "There are four zebras."))
    assert wrong_place(sample(field, "The bus is left of the dog."))


def test_kinds_and_general_words_in_captions_support_a_category() -> None:
    street = replace(ROOM, captions=("Vehicles on a street.", "A puppy and her kid."))
    assert not ungrounded(sample(street, "A truck and a car stand on the street, and a person walks by."))
    assert ungrounded(sample(street, "A cat walks by."))


def test_the_own_categories_of_the_data_are_found() -> None:
    made = sample(ROOM, "There is a forklift in the room.")
    assert not ungrounded(made)
    assert ungrounded(replace(made, vocabulary=("forklift",)))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ("Person", "a man"),
        ("Man", "a woman"),
        ("Person_sitting", "a person"),
        ("sofa", "a couch"),
        ("diningtable", "a table"),
        ("vehicle", "a truck"),
        ("Forklift", "a forklift"),
    ],
)
def test_a_box_supports_other_names_of_its_category(box: str, said: str) -> None:
    room = replace(ROOM, captions=("A room.",), boxes=(Box(box, 0.1, 0.1, 0.4, 0.6),))
    made = replace(sample(room, f"There is {said} in the room."), vocabulary=(box,))
    assert not ungrounded(made)
    assert ungrounded(replace(made, record=replace(room, boxes=(Box("lamp", 0.1, 0.1, 0.4, 0.6),))))


@pytest.mark.parametrize("name", ["object", "0", "k9"])
def test_categories_whose_name_says_nothing_are_not_judged(name: str) -> None:
    assert not ungrounded(replace(sample(ROOM, f"There is one {name} in the room."), vocabulary=(name,)))


def test_other_languages_are_not_judged() -> None:
    french = replace(Prompts().load("conversation"), language="fr")
    assert not ungrounded(replace(sample(ROOM, "There is a cat."), kind=french))

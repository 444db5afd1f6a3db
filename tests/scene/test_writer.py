"""What the symbolic teacher says is true of the boxes, and is read as meant by the benchmark's reader."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.errors import ClientError
from vistune.evaluate.reading import read_answer
from vistune.generate.filters import Sample, reasons
from vistune.generate.kinds import Prompts
from vistune.generate.replies import parse_reply
from vistune.llm import Request, open_client
from vistune.records import Box, ImageRecord, Turn
from vistune.scene import facts
from vistune.scene.context import parse_context
from vistune.scene.english import number, singular
from vistune.scene.mentions import MentionFinder
from vistune.scene.wording import common_objects, phrases, questions
from vistune.scene.writer import SceneWriter

FINDER = MentionFinder(common_objects())


def scenes(count: int) -> list[SceneWriter]:
    """Writers about random scenes of one to six boxes."""
    writers = []
    for seed in range(count):
        rng = random.Random(seed)
        names = rng.choices(common_objects(), k=3)
        boxes = []
        for _ in range(rng.randint(1, 6)):
            x, y, side = rng.uniform(0, 0.7), rng.uniform(0, 0.7), rng.uniform(0.05, 0.3)
            boxes.append(Box(rng.choice(names), x, y, x + side, y + side))
        writers.append(SceneWriter((), boxes, rng, common_objects()))
    return writers


def mentioned(question: str) -> list[str]:
    return FINDER.find(question)


def test_existence_is_true_either_way() -> None:
    for writer in scenes(300):
        present = facts.counts(writer.boxes)
        for pair, expected in ((writer.existence_yes(), "yes"), (writer.existence_no(), "no")):
            assert pair is not None
            [name] = mentioned(pair[0])
            assert (name in present) == (expected == "yes")
            assert read_answer("existence", pair[1], pair[0], FINDER)[0] == expected


def test_counts_are_those_of_the_boxes() -> None:
    for writer in scenes(300):
        pair = writer.count()
        assert pair is not None
        [name] = mentioned(pair[0])
        expected = number(facts.counts(writer.boxes)[name])
        assert read_answer("count", pair[1], pair[0], FINDER)[0] == expected


def test_positions_are_those_of_the_only_object() -> None:
    answered = 0
    for writer in scenes(300):
        if pair := writer.position():
            answered += 1
            box = facts.only(writer.boxes, mentioned(pair[0])[0])
            assert box is not None
            assert read_answer("position", pair[1], pair[0], FINDER)[0] == facts.position(box)
    assert answered > 50


def test_relations_hold_as_answered() -> None:
    answers = Counter[str]()
    for writer in scenes(300):
        if pair := writer.relation():
            a, b = (facts.only(writer.boxes, name) for name in mentioned(pair[0]))
            assert a is not None
            assert b is not None
            relation = next(name for name in facts.RELATIONS if name in pair[0])
            expected = "yes" if facts.holds(relation, a, b) else "no"
            assert read_answer("relation", pair[1], pair[0], FINDER)[0] == expected
            answers[expected] += 1
    assert min(answers["yes"], answers["no"]) > 20


@pytest.mark.parametrize("way", ["category", "neighbor"])
def test_what_is_somewhere_is_there(way: str) -> None:
    answered = 0
    for writer in scenes(300):
        if pair := getattr(writer, way)():
            answered += 1
            said, _ = read_answer("category", pair[1], pair[0], FINDER)
            if way == "category":
                region = max((name for name in facts.POSITIONS if re.search(rf"\b{name}\b", pair[0])), key=len)
                there = {box.category for box in writer.boxes if facts.position(box) == region}
            else:
                other = facts.only(writer.boxes, mentioned(pair[0])[0])
                relation = next(name for name in facts.RELATIONS if name in pair[0])
                assert other is not None
                there = {box.category for box in writer.boxes if facts.holds(relation, box, other)}
            assert there == {said}
    assert answered > 30


def test_a_description_names_what_is_there_and_nothing_else() -> None:
    for writer in scenes(300):
        assert set(FINDER.find(writer.description())) == set(facts.counts(writer.boxes))


def test_reasoning_reaches_the_right_end() -> None:
    for writer in scenes(300):
        pair = writer.reasoning()
        assert pair is not None
        question, answer = pair
        if question in phrases()["reasoning"]["total"]:
            assert f"{number(len(writer.boxes))} object" in answer
        if question in phrases()["reasoning"]["leftmost"]:
            first = min(writer.boxes, key=lambda box: box.center[0]).category
            assert f"{singular(first)} comes first" in answer


def test_a_conversation_has_no_question_twice_and_many_wordings() -> None:
    wordings: list[str] = []
    for writer in scenes(200):
        own = [question for question, _ in writer.conversation(8)]
        assert 4 <= len(own) == len(set(own)) <= 8
        wordings += own
    assert len(set(wordings)) > 900


@pytest.mark.parametrize(
    ("categories", "captions", "boxed", "denied"),
    [
        (("Car", "Dog", "Person"), (), "Dog", {"Car", "Person"}),
        (("dog", "traffic_light"), (), "Traffic-Light", {"dog"}),
        (("diningtable", "tv", "tvmonitor"), (), "tvmonitor", {"diningtable"}),
        (("chair", "sofa"), ("A red couch.",), "rug", {"chair"}),
        (("Man", "Person", "truck"), ("A woman and a firetruck.",), "lamp", set()),
        (("Pedestrian", "Tram"), (), "Person_sitting", {"Tram"}),
        (("kangaroo",), ("People and a bowl.",), "kangaroo", set()),
        (("0", "DontCare", "object"), (), "car", set()),
        ((), (), "dog", set()),
    ],
)
def test_only_categories_of_the_data_that_are_nowhere_are_denied(
    categories: tuple[str, ...], captions: tuple[str, ...], boxed: str, denied: set[str]
) -> None:
    boxes = (Box(boxed, 0.1, 0.1, 0.4, 0.4),)
    pairs = [SceneWriter(captions, boxes, random.Random(seed), categories).existence_no() for seed in range(60)]
    finder = MentionFinder(categories)
    assert {name for pair in pairs if pair for name in finder.find(pair[0])} == denied


@pytest.mark.parametrize("names", [("Dog", "Car", "Person", "Traffic_Light"), ("dog", "traffic_light"), ("Mouse",)])
def test_no_conversation_is_lost_for_the_spelling_of_its_categories(names: tuple[str, ...]) -> None:
    kind = Prompts().load("conversation")
    for seed in range(100):
        rng = random.Random(seed)
        corners = [(rng.uniform(0, 0.7), rng.uniform(0, 0.7)) for _ in range(rng.randint(1, 4))]
        boxes = tuple(Box(rng.choice(names), x, y, x + 0.2, y + 0.2) for x, y in corners)
        pairs = SceneWriter((), boxes, rng, names).conversation(8)
        turns = tuple(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a)))
        record = ImageRecord("1", Path("1.jpg"), boxes=boxes)
        assert reasons(Sample(kind, record, turns, names)) == ()


def test_every_wording_can_be_filled() -> None:
    words = {"thing", "a_thing", "things", "other", "relation", "place"}
    for kind in ("existence", "count", "position", "relation", "category", "neighbor", "size", "list"):
        for template in questions(kind):
            assert set(re.findall(r"{(\w+)}", template)) <= words


def request(context: str, kind: str = "conversation", seed: int = 0) -> Request:
    return Request("", (Turn("user", context),), kind, seed)


CONTEXT = "A dog.\n\ndog: [0.1, 0.1, 0.3, 0.3]\ncat: [0.6, 0.6, 0.9, 0.9]"


def test_the_client_writes_the_wire_format_from_the_text_alone() -> None:
    client = open_client("symbolic")
    replies = [asyncio.run(client.complete(request(CONTEXT, seed=seed))).text for seed in (0, 0, 1)]
    assert replies[0] == replies[1] != replies[2]
    turns = parse_reply(replies[0]).turns
    assert len(turns) >= 8
    assert parse_context(CONTEXT)[1][1].category == "cat"


def test_the_client_denies_only_categories_of_the_data() -> None:
    client = open_client("symbolic")
    denied = set()
    for seed in range(40):
        wanted = replace(request(CONTEXT, seed=seed), vocabulary=("cat", "dog", "kangaroo"))
        turns = parse_reply(asyncio.run(client.complete(wanted)).text).turns
        denied |= {
            question.text for question, answer in zip(turns[::2], turns[1::2], strict=True) if "no " in answer.text
        }
    assert denied
    assert all("kangaroo" in question for question in denied)


def test_the_client_has_nothing_to_say_without_boxes_and_refuses_unknown_kinds() -> None:
    client = open_client("symbolic")
    assert asyncio.run(client.complete(request("A dog."))).text == ""
    with pytest.raises(ClientError, match="poem"):
        asyncio.run(client.complete(request(CONTEXT, kind="poem")))

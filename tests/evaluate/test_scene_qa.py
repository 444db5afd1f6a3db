from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.scene_qa import TYPES, SceneQA, unseen
from vistune.records import Box, ImageRecord, Question
from vistune.scene import facts, wording
from vistune.scene.english import NUMBERS, plural, with_article
from vistune.scene.mentions import MentionFinder, vocabulary

GROUPS = ("existence", "count", "position", "relation", "category", "neighbor")


def record(*boxes: Box, name: str = "1", captions: tuple[str, ...] = ()) -> ImageRecord:
    return ImageRecord(name, Path(f"{name}.png"), 100, 100, captions, boxes)


def at(category: str, x: float, y: float, *, crowd: bool = False) -> Box:
    return Box(category, x - 0.05, y - 0.05, x + 0.05, y + 0.05, crowd)


def made(records: Sequence[ImageRecord], seed: int = 0) -> list[Question]:
    return list(SceneQA(Setting(annotated=records, seed=seed)).questions())


def asked(record: ImageRecord, kind: str, *others: ImageRecord, seeds: int = 20) -> set[tuple[str, str]]:
    """All (question, answer) of a type about `record` that some seed asks."""
    found = set()
    for seed in range(seeds):
        about = made([record, *others], seed)
        found |= {(q.text, q.references[0]) for q in about if q.type == kind and q.images == (record.image,)}
    return found


def answers(record: ImageRecord, kind: str, *others: ImageRecord) -> set[str]:
    return {answer for _, answer in asked(record, kind, *others)}


def test_deterministic_by_seed(records: list[ImageRecord]) -> None:
    first = made(records, 3)
    assert first == made(records, 3)
    assert first != made(records, 4)
    assert len({question.id for question in first}) == len(first)


def test_half_of_the_binary_questions_are_yes(records: list[ImageRecord]) -> None:
    questions = made(records)
    for kind in ("existence", "relation"):
        found = Counter(question.references[0] for question in questions if question.type == kind)
        assert found["yes"] == found["no"] >= 20


def test_every_type_is_there_and_none_more_than_twice_an_image(records: list[ImageRecord]) -> None:
    questions = made(records)
    times = Counter((question.images, question.type) for question in questions)
    assert {kind for _, kind in times} == set(TYPES)
    assert max(times.values()) == 2
    assert len({(question.images, question.text) for question in questions}) == len(questions)


def test_a_quarter_of_each_type_is_worded_as_training_never_was(records: list[ImageRecord]) -> None:
    questions = made(records)
    for kind in TYPES:
        of_type = [question for question in questions if question.type == kind]
        assert sum(question.details["wording"] == "unseen" for question in of_type) == round(len(of_type) / 4)
    for question in questions:
        groups = ("category", "neighbor") if question.type == "category" else (question.type,)
        known = [template for group in groups for template in wording.questions(group)]
        assert any(fits(template, question.text) for template in known) == (question.details["wording"] == "seen")


def fits(template: str, text: str) -> bool:
    """Whether the template with names, places or relations filled in is the text."""
    names = [form for name in wording.common_objects() for form in (name, with_article(name), plural(name))]
    words = [*names, *map(wording.place, facts.POSITIONS), *map(wording.spoken, facts.RELATIONS)]
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", f"(?:{'|'.join(words)})", re.escape(template)), text) is not None


def test_no_unseen_wording_is_one_of_the_teachers() -> None:
    for group in GROUPS:
        assert 5 <= len(unseen(group)) <= 8
        taught = {re.sub(r"\W+", " ", template).lower() for template in wording.questions(group)}
        assert not taught & {re.sub(r"\W+", " ", template).lower() for template in unseen(group)}


def test_references_are_what_the_boxes_say(records: list[ImageRecord]) -> None:
    finder = MentionFinder(vocabulary(records))
    boxes = {record.image: record.boxes for record in records}
    for question in made(records):
        there = facts.counts(boxes[question.images[0]])
        named = finder.find(question.text)
        if question.type == "existence":
            assert (named[0] in there) == (question.references[0] == "yes")
        elif question.type == "count":
            assert facts.counts(boxes[question.images[0]])[named[0]] == NUMBERS.index(question.references[0])
        elif question.type == "position":
            box = facts.only(boxes[question.images[0]], named[0])
            assert box is not None
            assert facts.position(box) == question.references[0]
        elif question.type == "relation":
            a, b = (facts.only(boxes[question.images[0]], name) for name in named)
            relation = next(name for name in facts.RELATIONS if f" {name} " in question.text)
            assert a is not None
            assert b is not None
            assert facts.holds(relation, a, b) is (question.references[0] == "yes")
        else:
            assert question.references[0] in there


def test_an_absent_category_occurs_elsewhere_and_no_caption_tells_it() -> None:
    others = [record(at(name, 0.5, 0.5), name=name) for name in ("cat", "bus", "cup")]
    told = record(at("dog", 0.5, 0.5), captions=("A dog looks at a cat beside a mug.",))
    assert {answer for text, answer in asked(told, "existence", *others) if "bus" in text} == {"no"}
    assert not any("cat" in text or "cup" in text for text, _ in asked(told, "existence", *others))


def test_crowds_are_not_counted_or_placed_but_are_there() -> None:
    crowd = record(at("person", 0.5, 0.5, crowd=True), at("dog", 0.2, 0.2))
    bus = record(at("bus", 0.5, 0.5), name="2")
    questions = asked(crowd, "existence", bus)
    assert {answer for text, answer in questions if re.search("person|people", text)} == {"yes"}
    assert not any("people" in text for text, _ in asked(crowd, "count"))
    assert answers(crowd, "position") == {"top left"}
    assert not asked(crowd, "relation")
    assert not asked(crowd, "category")


def test_counts_end_at_six() -> None:
    assert answers(record(*[at("dog", 0.1 * n, 0.5) for n in range(1, 7)]), "count") == {"six"}
    assert not asked(record(*[at("dog", 0.1 * n, 0.5) for n in range(1, 8)]), "count")


def test_positions_only_of_what_is_there_once_and_clearly() -> None:
    boundary = facts_boundary()
    assert not asked(record(at("dog", boundary, 0.5)), "position")
    assert not asked(record(at("dog", 0.2, 0.2), at("dog", 0.8, 0.8)), "position")
    assert answers(record(at("dog", 0.2, 0.8)), "position") == {"bottom left"}


def facts_boundary() -> float:
    """An x where no region is clear."""
    return next(x / 100 for x in range(100) if facts.position(at("dog", x / 100, 0.5)) is None)


def test_what_is_in_a_region_is_asked_only_where_one_thing_can_be_meant() -> None:
    def regions(*boxes: Box) -> set[str]:
        beside = re.compile("(of|above|below) the (dog|cat)")
        return {answer for text, answer in asked(record(*boxes), "category") if not beside.search(text)}

    assert regions(at("dog", 0.2, 0.2)) == {"dog"}
    assert regions(at("dog", 0.2, 0.2), at("cat", 0.1, 0.1)) == set()  # both at the top left
    assert regions(at("dog", 0.2, 0.5), at("dog", 0.2, 0.2)) == {"dog"}  # the upper one; "left" may mean either
    assert regions(at("dog", 0.2, 0.2), at("cat", facts_boundary(), 0.5)) == {"dog"}  # the cat is near the left only
    assert regions(at("dog", 0.2, 0.5), at("cat", facts_boundary(), 0.5)) == set()  # the cat might be there, too


def test_what_is_beside_something_is_asked_only_where_one_thing_is() -> None:
    level = record(at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("bus", 0.82, 0.8))
    texts = asked(level, "category")
    assert not any("left of the cat" in text for text, _ in texts)  # the bus may be or not
    assert not any("right of the dog" in text for text, _ in texts)  # a cat and a bus
    one = record(at("dog", 0.2, 0.5), at("cat", 0.8, 0.5))
    texts = asked(one, "category")
    assert {answer for text, answer in texts if "left of the cat" in text} == {"dog"}
    assert not any("above" in text or "below" in text for text, _ in texts)


def test_nothing_to_ask_about() -> None:
    assert made([record()]) == []


@pytest.mark.parametrize(
    ("kind", "reference", "right", "wrong"),
    [
        ("existence", "no", "No, there is none.", "Yes."),
        ("existence", "yes", "Yes!", ""),
        ("existence", "yes", "yes", "There is a dog."),
        ("count", "two", "There are 2 dogs.", "There are three dogs, not two."),
        ("position", "top left", "In the upper left part.", "At the top."),
        ("position", "center", "In the middle.", "On the left."),
        ("category", "hot dog", "A hot dog.", "A dog."),
        ("category", "dog", "The dog.", "A hot dog."),
    ],
)
def test_right_is_right_and_wrong_is_wrong(kind: str, reference: str, right: str, wrong: str) -> None:
    benchmark = SceneQA(Setting(annotated=[record(at("dog", 0.5, 0.5), at("hot dog", 0.1, 0.1))]))
    question = Question("1", "?", (Path("1.png"),), kind, (reference,))
    assert benchmark.score(question, right).value == 1
    verdict = benchmark.score(question, wrong)
    assert verdict.value == 0
    assert verdict.explanation

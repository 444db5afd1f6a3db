from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.generate.filters import FILTERS, Sample, reasons
from vistune.generate.filters.echo import echo
from vistune.generate.filters.wording import leak, role_marker
from vistune.generate.kinds import Prompts
from vistune.generate.replies import parse_reply
from vistune.records import Box, ImageRecord, Turn
from vistune.scene.context import parse_context

CAPTIONS = ("A brown dog sleeps next to a chair.", "The dog is lying on a red rug.")
RECORD = ImageRecord("1", Path("1.jpg"), captions=CAPTIONS, boxes=(Box("dog", 0.1, 0.2, 0.3, 0.4),))


def sample(answer: str, question: str = "What can you see in the image?", kind: str = "conversation") -> Sample:
    return Sample(Prompts().load(kind), RECORD, (Turn("user", question), Turn("assistant", answer)))


LEAKS = [
    "The caption says that there is a dog.",
    "As captioned, it is a dog.",
    "The bounding boxes overlap.",
    "Its coordinates put the dog on the left.",
    "The dog is at [0.1, 0.2, 0.3, 0.4].",
    "Based on the description, there is one dog.",
    "According to the provided information, a dog sleeps.",
    "Judging from the given context, it is morning.",
    "The description mentions a rug.",
    "The color is not mentioned.",
    "The image doesn't specify the breed.",
    "The image doesn\u2019t mention the breed.",
    "As described in the text, the dog is brown.",
]
NO_LEAKS = [
    "According to the text on the sign, the shop is closed.",
    "Based on the dog's size, it is fully grown.",
    "The woman coordinates the dancers.",
    "The information board stands next to a box with 0.5 liters of milk.",
    "The dog lies in the box.",
    "The prices are listed in the window.",
]
REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, it is unclear.",
    "As an AI language model, I see nothing.",
    "I cannot see the image.",
    "I can't determine the color.",
    "I am unable to answer.",
    "The color cannot be determined.",
    "It is impossible to tell what he thinks.",
    "There isn't enough information for that.",
    "I don't have access to images.",
]
NO_REFUSALS = [
    "No, I cannot see a cat.",
    "No, I can't see any cats in this picture.",
    "I don't see a horse.",
    "The dog cannot be seen by the cat.",
    "There is not enough room for two dogs.",
]
MARKERS = [
    "A dog. <image>",
    "<|im_end|>A dog.",
    "A dog.</s>",
    "[INST] Say no [/INST]",
    "A dog.\nUSER: and now?",
    "A dog.\n**Answer:** no",
    "### Human\nhello",
    "A dog. === Question",
    "<start_of_turn>model",
]
NO_MARKERS = [
    "The user: nobody.",
    "The sign says '50 < 60'.",
    "It is dog #3.",
    "He holds a pen and asks a question: why?",
]


@pytest.mark.parametrize(
    ("code", "bad", "good"),
    [("leak", LEAKS, NO_LEAKS), ("refusal", REFUSALS, NO_REFUSALS), ("role_marker", MARKERS, NO_MARKERS)],
)
def test_what_an_answer_must_not_say(code: str, bad: list[str], good: list[str]) -> None:
    assert [text for text in bad if code not in reasons(sample(text))] == []
    assert [text for text in good if reasons(sample(text))] == []


@pytest.mark.parametrize("judge", [leak, role_marker])
def test_questions_are_judged_too(judge: Callable[[Sample], bool]) -> None:
    assert judge(sample("A dog.", question="<image> What does the caption say?"))


def test_echo() -> None:
    question = "What color is the dog?"
    example = parse_reply(Prompts().load("conversation").examples[0][1]).turns[1].text
    captions = " ".join(CAPTIONS)
    assert echo(sample("What color is the dog? It is brown.", question))
    assert echo(sample(example))
    assert echo(sample(captions))
    assert not echo(sample("The dog is brown.", question))
    assert not echo(sample("The dog is lying on a red rug. It looks asleep."))
    assert not echo(sample("Yes."))


def test_length_bands() -> None:
    assert reasons(sample("A dog.", kind="detail")) == ("too_short",)
    assert reasons(sample("very " * 500 + "long.", kind="detail")) == ("too_long",)
    assert reasons(sample("A brown dog lies on a red rug next to a chair.", kind="detail")) == ()


@pytest.mark.parametrize("roles", ["", "u", "a", "au", "uu", "uau", "uaau"])
def test_turn_order(roles: str) -> None:
    turns = tuple(Turn("user" if role == "u" else "assistant", "A dog.") for role in roles)
    assert "turn_order" in reasons(Sample(Prompts().load("conversation"), RECORD, turns))


def test_turn_count() -> None:
    kind = Prompts().load("conversation")
    turns = [turn for n in range(kind.turns[1] + 1) for turn in sample(f"It is number {n}.", f"What is at {n}?").turns]
    assert reasons(Sample(kind, RECORD, tuple(turns[:-2]))) == ()
    assert reasons(Sample(kind, RECORD, tuple(turns))) == ("turn_count",)


def test_all_reasons_are_given_in_order() -> None:
    found = reasons(sample("I'm sorry, the caption ends here.</s>"))
    assert found == ("role_marker", "leak", "refusal")
    assert set(found) < set(FILTERS)


@pytest.mark.parametrize("name", sorted(Prompts().folders()))
def test_our_own_examples_would_be_accepted(name: str) -> None:
    kind = Prompts().load(name)
    for context, reply in kind.examples:
        turns = parse_reply(reply, bool(kind.questions)).turns
        turns = (Turn("user", kind.questions[0]), *turns) if kind.questions else turns
        shown, boxes = parse_context(context)
        codes = reasons(Sample(kind, replace(RECORD, captions=shown, boxes=boxes), turns))
        assert codes == ("echo",)  # of themselves

from __future__ import annotations

import pytest

from vistune.generate.parse import ReplyError, parse_answer, parse_dialogue
from vistune.records import Turn

GOOD = "Question:\nWhat is it?\n===\nAnswer:\nA dog.\n===\nQuestion:\nWhere?\n===\nAnswer:\nOn the left,\nby the door."
TURNS = (
    Turn("user", "What is it?"),
    Turn("assistant", "A dog."),
    Turn("user", "Where?"),
    Turn("assistant", "On the left,\nby the door."),
)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n{GOOD}\n===\n",
        f"===\n{GOOD}",
        GOOD.replace(":\n", ": "),
        GOOD.replace("===", " =====\t").replace("\n", "\r\n"),
        GOOD.replace("Question", "QUESTION").replace("Answer", "answer "),
    ],
)
def test_the_form_asked_for_and_its_harmless_variants(text: str) -> None:
    assert parse_dialogue(text) == TURNS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_reply"),
        (" \n===\n \n", "empty_reply"),
        ("Sure, here it is!\n" + GOOD, "unmarked_block"),
        (GOOD.replace("Answer:\nA dog.", "A dog."), "unmarked_block"),
        ("Answer:\nA dog.", "wrong_order"),
        ("Answer:\nA dog.\n===\nQuestion:\nWhat is it?", "wrong_order"),
        ("Question:\nA?\n===\nQuestion:\nB?\n===\nAnswer:\nC.", "wrong_order"),
        ("Question:\nA?\n===\nAnswer:\nB.\n===\nAnswer:\nC.", "wrong_order"),
        ("Question:\nA?\n===\nAnswer:\n  ", "empty_turn"),
        ("Question:\n===\nAnswer:\nA.", "empty_turn"),
        ("Question:\nA?", "unanswered"),
        (GOOD[: GOOD.rindex("===")], "unanswered"),
    ],
)
def test_what_is_wrong_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ReplyError, match=f"^{reason}$"):
        parse_dialogue(text)


def test_equal_signs_within_a_line_end_nothing() -> None:
    turns = parse_dialogue("Question:\nWhat does the sign say?\n===\nAnswer:\nIt says a === b.")
    assert turns[1].text == "It says a === b."


def test_an_answer_alone() -> None:
    assert parse_answer(" A dog. \n", "What?") == (Turn("user", "What?"), Turn("assistant", "A dog."))
    with pytest.raises(ReplyError, match="empty_reply"):
        parse_answer(" \n", "What?")

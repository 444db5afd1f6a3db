from __future__ import annotations

import json
import random

import pytest

from vistune.generate.filters import has_role_marker
from vistune.generate.replies import ParsedReply, ReplyError, parse_reply, to_json
from vistune.records import Turn

GOOD = "Question:\nWhat is it?\n===\nAnswer:\nA dog.\n===\nQuestion:\nWhere?\n===\nAnswer:\nOn the left,\nby the door."
TURNS = (
    Turn("user", "What is it?"),
    Turn("assistant", "A dog."),
    Turn("user", "Where?"),
    Turn("assistant", "On the left,\nby the door."),
)
JSON = to_json(ParsedReply(TURNS))
PRETTY = json.dumps(json.loads(JSON), indent=2)
FIRST = TURNS[:2]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n{GOOD}\n===\n",
        f"===\n{GOOD}",
        GOOD.replace(":\n", ": "),
        GOOD.replace("===", " =====\t"),
        GOOD.replace("Question", "QUESTION").replace("Answer", "answer "),
        JSON,
        f"\n{PRETTY}\n",
    ],
)
def test_the_requested_formats_need_no_repair(text: str) -> None:
    assert parse_reply(text) == ParsedReply(TURNS)


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        (GOOD.replace("\n", "\r\n"), ["line_ends"]),
        ("\ufeff" + GOOD, ["line_ends"]),
        (f"<think>\nQuestion: what?\n===\n</think>\n{GOOD}", ["thinking"]),
        (f"```\n{GOOD}\n```", ["code_fence"]),
        (f"Sure, here it is!\n{GOOD}", ["chatter"]),
        (f"Sure, here it is!\n===\n{GOOD}", ["chatter"]),
        (f"{GOOD}\n===\nI hope this helps!", ["chatter"]),
        (GOOD.replace("Question", "Q").replace("Answer", "A"), ["marker"]),
        (GOOD.replace("Question:", "**Question:**").replace("Answer:", "**Answer**:"), ["marker"]),
        (GOOD.replace("Question:", "### Question 1:"), ["marker"]),
        (GOOD.replace("Question:", "2. Question:"), ["marker"]),
        (GOOD.replace("===", "**===**"), []),
        (GOOD.replace("===", "---"), ["separator"]),
        (GOOD.replace("===\n", ""), ["separator"]),
        (GOOD.replace("===\n", "", 1), ["separator"]),
        (GOOD.replace("===\n", "\n").replace("Question:", "**Q:**").replace("Answer", "**A"), ["marker", "separator"]),
        (f"```json\n{PRETTY}\n```", ["code_fence"]),
        (f"Here is the JSON you asked for:\n```json\n{PRETTY}\n```\nEnjoy!", ["code_fence", "chatter"]),
        (f"Here you are: {JSON} Enjoy!", ["chatter"]),
        (JSON.replace('"}]', '",}, ]'), ["json"]),
        (JSON.replace('"', "\u201c"), ["quotes"]),
        (JSON.replace('"', "'"), ["json"]),
        (JSON.replace("}, {", "} {"), ["json"]),
        (JSON.replace('"answer"', '"answer'), ["json"]),
        (JSON.replace("\\n", "\n"), ["raw_text"]),
        (JSON.replace('"turns"', '"Conversation"'), []),
        (json.dumps(json.loads(JSON)["turns"]), []),
        ("\n".join(map(json.dumps, json.loads(JSON)["turns"])), ["several_objects"]),
    ],
)
def test_harmless_mistakes_are_repaired_and_named(text: str, repairs: list[str]) -> None:
    assert parse_reply(text) == ParsedReply(TURNS, tuple(repairs))


@pytest.mark.parametrize("text", [GOOD[: GOOD.rindex("===")], GOOD[: GOOD.rindex("\nOn")], GOOD[: GOOD.index("Where")]])
def test_a_truncated_text_keeps_its_whole_pairs(text: str) -> None:
    assert parse_reply(text) == ParsedReply(FIRST, ("truncated",))


def test_a_text_that_ends_at_the_token_limit_loses_its_last_pair() -> None:
    assert parse_reply(GOOD, finish="length") == ParsedReply(FIRST, ("truncated",))
    assert parse_reply(GOOD, finish="stop") == ParsedReply(TURNS)
    assert parse_reply(JSON, finish="length") == ParsedReply(TURNS)  # closed, so complete
    with pytest.raises(ReplyError, match="truncated"):
        parse_reply("A dog on the", answer_only=True, finish="length")
    with pytest.raises(ReplyError, match="truncated"):
        parse_reply(GOOD[: GOOD.index("===\nQuestion")], finish="length")


def test_truncated_json_keeps_whole_turns_only() -> None:
    for text in (JSON, PRETTY):
        whole = text.index("}") + 1
        for end in range(whole, len(text)):
            parsed = parse_reply(text[:end])
            assert parsed.turns in (FIRST, TURNS)
            assert "truncated" in parsed.repairs
        for end in range(text.index("turns") + 6, whole):
            with pytest.raises(ReplyError, match="truncated"):
                parse_reply(text[:end])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_reply"),
        (" \n===\n \n", "empty_reply"),
        ("```\n\n```", "empty_reply"),
        ("<think>So, the image", "unfinished_thinking"),
        ("A dog sits on a rug.", "unmarked_block"),
        (GOOD.replace("Answer:\nA dog.", "A dog."), "unmarked_block"),
        ("Answer:\nA dog.", "wrong_order"),
        ("Answer:\nA dog.\n===\nQuestion:\nWhat is it?", "wrong_order"),
        ("Question:\nA?\n===\nQuestion:\nB?\n===\nAnswer:\nC.", "wrong_order"),
        ("Question:\nA?\n===\nAnswer:\nB.\n===\nAnswer:\nC.", "wrong_order"),
        (GOOD.replace("A dog.", "A dog.\nQuestion: Who?\nAnswer: Me."), "wrong_order"),
        ("Question:\nA?\n===\nAnswer:\n  ", "empty_turn"),
        ("Question:\n===\nAnswer:\nA.", "empty_turn"),
        ("Question:\nA?", "unanswered"),
        ('{"turns": []}', "empty_reply"),
        ('{"turns": [{"question": "A?"}]}', "wrong_schema"),
        ('{"turns": ["A?", "B."]}', "wrong_schema"),
        ('{"turns": [{"question": "A?", "answer": 3}]}', "wrong_schema"),
        ('{"turns": [{"question": "A?", "answer": " "}]}', "empty_turn"),
        ('{"turns": [{"question": "A?", "answer": "B" C}, {"question": "D?", "answer": "E."}]}', "broken_json"),
        ('{"turns": [{"question": "A", "answer": "B"}, {"answer": "C", "x": "D",}]}', "wrong_schema"),
        ('{"turns": [{"question": "A?", "answer": "It is"a.}, {"question": "B?" "answer", "c"}]}', "broken_json"),
    ],
)
def test_an_unusable_reply_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ReplyError, match=f"^{reason}$"):
        parse_reply(text)


def test_json_repair_keeps_quotes_within_a_text() -> None:
    parsed = parse_reply('{"turns": [{"question": "A "big" one?", "answer": "B."}]}')
    assert parsed == ParsedReply((Turn("user", 'A "big" one?'), Turn("assistant", "B.")), ("json",))


@pytest.mark.parametrize("prefix", ["", '{"turns": [{"question": ', '{"answer": ', '{"turns": [{"q": "A?", "answer": '])
@pytest.mark.parametrize("count", [1_000, 200_000])
@pytest.mark.parametrize("answer_only", [False, True])
def test_deep_nesting_is_broken_json(prefix: str, count: int, answer_only: bool) -> None:
    for bracket in ("[", '{"a": '):
        with pytest.raises(ReplyError, match=r"^broken_json$"):
            parse_reply(prefix + bracket * count, answer_only)


@pytest.mark.parametrize("thoughts", [
    "<think>\nQuestion: what?\n===\n</think>",
    "The picture has a dog.\n</think>",  # the chat template has opened the tag
    "<think></think>\n<think>\nFirst, the dog.\n</think>",
    "<seed:think>Okay, let me see.</seed:think>",
    "<THINKING>a</think> b </Thinking>",
    "<reasoning>a</reasoning>",
])  # fmt: skip
def test_thoughts_are_cut(thoughts: str) -> None:
    for text in (GOOD, JSON):
        assert parse_reply(f"{thoughts}\n{text}") == ParsedReply(TURNS, ("thinking",))
    assert parse_reply(f"{thoughts}\nA dog.", answer_only=True).turns == (Turn("assistant", "A dog."),)
    with pytest.raises(ReplyError, match=r"^unfinished_thinking$"):
        parse_reply(f"{thoughts}\n<think>So, the image", answer_only=True)


def test_a_think_tag_left_over_is_a_role_marker() -> None:
    answer = parse_reply("A dog. <think>Is it one?", answer_only=True).turns[0].text
    assert has_role_marker(answer)
    assert has_role_marker(parse_reply('{"answer": "So.</think> A dog."}', answer_only=True).turns[0].text)


def test_equal_signs_and_letters_within_a_block_end_nothing() -> None:
    turns = parse_reply("Question:\nWhat does the sign say?\n===\nAnswer:\nIt says a === b.\nA: red\nB: blue").turns
    assert turns[1].text == "It says a === b.\nA: red\nB: blue"
    quoted = json.dumps({"turns": [{"question": 'Is {"question": "x"} shown?', "answer": "No,} it is ] not, }."}]})
    assert parse_reply(quoted).turns[1].text == "No,} it is ] not, }."


def test_an_answer_only() -> None:
    assert parse_reply(" A dog. \n", answer_only=True).turns == (Turn("assistant", "A dog."),)
    with pytest.raises(ReplyError, match="empty_reply"):
        parse_reply(" \n", answer_only=True)


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        ("A dog.\n\nIt sits.", []),
        ('{"answer": "A dog.\\n\\nIt sits."}', []),
        ('```json\n{"answer": "A dog.\\n\\nIt sits.",}\n```', ["code_fence", "json"]),
        ("{'answer': 'A dog.\\n\\nIt sits.'}", ["json"]),
        ('{"description": "A dog.\\n\\nIt sits."}', ["other_key"]),
        ("Answer:\nA dog.\n\nIt sits.", ["marker"]),
        ("Sure! Here is a detailed look:\n\nA dog.\n\nIt sits.", ["chatter"]),
        ("A dog.\n\nIt sits.\n\nLet me know if you want more!", ["chatter"]),
    ],
)
def test_repairs_of_an_answer(text: str, repairs: list[str]) -> None:
    assert parse_reply(text, answer_only=True) == ParsedReply(
        (Turn("assistant", "A dog.\n\nIt sits."),), tuple(repairs)
    )


@pytest.mark.parametrize("text", ['{"answer": "A dog', '{"answer":', '{"answer": "A dog."'])
def test_a_truncated_answer_is_not_repaired(text: str) -> None:
    with pytest.raises(ReplyError, match="truncated"):
        parse_reply(text, answer_only=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"colour": 3}', "wrong_schema"),
        ('{"title": "A dog", "text": "It sits."}', "wrong_schema"),
        ('{"description": " "}', "wrong_schema"),
        ('{"description": "A dog" sits."}', "broken_json"),
    ],
)
def test_an_object_is_no_answer(text: str, reason: str) -> None:
    with pytest.raises(ReplyError, match=f"^{reason}$"):
        parse_reply(text, answer_only=True)
    assert parse_reply('[A "dog"]: it sits.', answer_only=True).turns[0].text == '[A "dog"]: it sits.'


def test_noise_never_swaps_roles() -> None:
    """With any part cut, doubled or dropped, accepted turns alternate, and each text keeps its role."""
    rng = random.Random(0)
    pieces = ["===\n", "Question:\n", "Answer:\n", "\n", "**", "```", '"', "}", "{", ",", "Sure!\n", "Q: ", "A: "]
    pairs = [(f"What is thing {n}?", f"It is number {n} here.") for n in range(4)]
    for _ in range(3000):
        if rng.random() < 0.5:
            text = "\n===\n".join(f"Question:\n{q}\n===\nAnswer:\n{a}" for q, a in pairs)
        else:
            text = json.dumps({"turns": [{"question": q, "answer": a} for q, a in pairs]})
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice([*pieces, ""]) + text[at + rng.randint(0, 12) :]
        try:
            turns = parse_reply(text).turns
        except ReplyError:
            continue
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        for turn in turns:
            other = "It is number" if turn.role == "user" else "What is thing"
            own = "What is thing" if turn.role == "user" else "It is number"
            assert other not in turn.text or own in turn.text

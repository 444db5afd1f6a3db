from __future__ import annotations

from typing import Any

import pytest

from vistune.data.conversation import to_conversation
from vistune.errors import DataError
from vistune.records import Conversation, Turn


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def read(row: Any) -> Conversation:
    return to_conversation(row, 7, "x: record 7", lambda value, place: f"{place}:{value}")


URL = {"type": "image_url", "image_url": {"url": "b.png"}}
ASKED, SAID = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]
OTHER = [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "images"),
    [
        ({"conversations": turns("<image>\nq", "a"), "image": "b.png"}, ["0:b.png"]),
        ({"conversations": turns("<image>\nq", "a"), "image": ["b.png"]}, ["0:b.png"]),
        ({"messages": [{"role": "user", "content": "<image>\nq"}, {"role": "assistant", "content": "a"}],
          "images": ["b.png"]}, ["0:b.png"]),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]},
                       {"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
          "images": [{"bytes": b"x", "path": None}]}, ["0:{'bytes': b'x', 'path': None}"]),
        ({"messages": [{"role": "user", "content": [URL, {"type": "text", "text": "q"}]},
                       {"role": "assistant", "content": "a"}]}, ["0:b.png"]),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "b.png", "text": None},
                                                    {"type": "text", "text": "q", "image": None}]},
                       {"role": "assistant", "content": "a"}], "image": None, "images": []}, ["0:b.png"]),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "images": ["b.png"]},
         ["0:b.png"]),  # TRL: the place of the image is not marked
        ({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}],
          "images": ["b.png"]}, ["0:b.png"]),
        ({"prompt": "q", "completion": "a", "image": "b.png"}, ["0:b.png"]),
        ({"texts": [{"user": "q", "assistant": "a", "source": "vqa"}], "images": ["b.png"]}, ["0:b.png"]),
        ({"query": "<image>\nq", "response": "a", "history": None, "images": ["b.png"]}, ["0:b.png"]),
        ({"instruction": "<image>", "input": "q", "output": "a", "history": [], "images": ["b.png"]}, ["0:b.png"]),
        ({"question": "q", "answer": "a", "image": "b.png"}, ["0:b.png"]),
    ],
)  # fmt: skip
def test_every_layout_gives_the_same_conversation(row: Any, images: list[str]) -> None:
    asked, said = Turn("user", "<image>\nq"), Turn("assistant", "a")
    assert read(row) == Conversation("7", (asked, said), tuple(images))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": SAID, "rejected": OTHER, "images": ["b.png"]},
        {"chosen": [*ASKED, *SAID], "rejected": [*ASKED, *OTHER], "images": ["b.png"]},
        {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}],
         "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}], "rejected": OTHER,
         "images": ["b.png"]},
        {"question": "q", "chosen": "a", "rejected": "b", "image": "b.png"},  # RLAIF-V
        {"conversations": turns("<image>\nq"), "chosen": {"from": "gpt", "value": "a"},
         "rejected": {"from": "gpt", "value": "b"}, "images": ["b.png"]},  # LLaMA-Factory
        {"messages": [*ASKED, *SAID], "rejected_response": "b", "images": ["b.png"]},  # ms-swift
        {"instruction": "<image>", "input": "q", "chosen": "a", "rejected": "b", "images": ["b.png"]},
    ],
)  # fmt: skip
def test_every_layout_of_preferences_gives_the_same_pair(row: Any) -> None:
    turns = (Turn("user", "<image>\nq"), Turn("assistant", "a"))
    assert read(row) == Conversation("7", turns, ("0:b.png",), rejected="b")


def test_only_the_last_answer_of_a_pair_is_learned() -> None:
    row = {"prompt": [*ASKED, *SAID, *ASKED], "chosen": SAID, "rejected": OTHER}
    assert [turn.learned for turn in read(row).turns] == [True, False, True, True]


def test_images_in_several_turns_come_in_order() -> None:
    row = {"id": 5, "kind": "detail", "image": ["a", "b", "c"],
           "conversations": turns("<image> or <image>", "<image> is a word", "q <image>", "a")}  # fmt: skip
    conversation = read(row)
    assert (conversation.id, conversation.kind, conversation.images) == ("5", "detail", ("0:a", "1:b", "2:c"))


def test_a_system_message_comes_first_and_an_empty_one_is_none() -> None:
    for told, kept in (("Be brief.", 3), (" ", 2)):
        row = {"conversations": [{"from": "system", "value": told}, *turns("q", "a")]}
        assert [turn.role for turn in read(row).turns] == ["system", "user", "assistant"][-kept:]


def test_the_key_system_is_the_systems_turn() -> None:
    row = {"system": "Be brief.", "conversations": turns("q", "a")}
    assert read(row) == read({"conversations": [{"from": "system", "value": "Be brief."}, *turns("q", "a")]})
    assert [turn.role for turn in read({**row, "system": " "}).turns] == ["user", "assistant"]
    empty = {"from": "system", "value": ""}
    assert read({**row, "conversations": [empty, *turns("q", "a")]}) == read(row)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "q2", "response": "a2", "history": [["q", "a"]], "system": "s"},
        {"instruction": "q2", "input": "", "output": "a2", "history": [["q", "a"]], "system": "s"},
        {"texts": [{"user": "q", "assistant": "a"}, {"user": "q2", "assistant": "a2"}], "system": "s"},
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"}, {"role": "user", "content": "q2"}],
         "completion": [{"role": "assistant", "content": "a2"}]},
    ],
)  # fmt: skip
def test_every_layout_has_earlier_turns_and_a_systems(row: Any) -> None:
    assert read(row) == read({"system": "s", "conversations": turns("q", "a", "q2", "a2")})


def test_numbers_are_answers() -> None:
    assert read({"question": "how many?", "answer": 3}) == read({"conversations": turns("how many?", "3")})


@pytest.mark.parametrize(
    ("key", "asked", "answered", "message"),
    [
        ("loss", None, True, ""), ("loss", False, True, ""), ("weight", 0, 1, ""), ("train", None, None, ""),
        ("weight", None, 0.5, r"\(id x\), turn 1: 'weight': 0.5 is not supported.*\n  fix: remove the key 'weight'"),
        ("train", True, True, "turn 0: 'train': True is not supported: only answers are learned"),
        ("loss", None, False, r"\(id x\): no answer is learned, by 'loss'"),
    ],
)  # fmt: skip
def test_keys_that_change_what_is_learned_are_never_ignored(
    key: str, asked: object, answered: object, message: str
) -> None:
    question, answer = turns("q", "a")
    row = {"id": "x", "conversations": [{**question, key: asked}, {**answer, key: answered}]}
    if message:
        with pytest.raises(DataError, match=message):
            read(row)
    else:
        assert read(row) == read({"id": "x", "conversations": turns("q", "a")})


@pytest.mark.parametrize(("key", "off"), [("loss", False), ("train", False), ("weight", 0)])
def test_an_answer_may_be_left_out_of_the_loss(key: str, off: object) -> None:
    question, answer, *rest = turns("q", "a", "q2", "a2")
    row = {"conversations": [question, {**answer, key: off}, *rest]}
    assert [turn.learned for turn in read(row).turns] == [True, False, True, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "s", "conversations": [{"from": "system", "value": "t"}, *turns("q", "a")]}, "both a key 'system'"),
        ({"system": 3, "conversations": turns("q", "a")}, "'system' is not a text"),
        ({"conversations": [{"from": ["human"], "value": "q"}]}, r"turn 0: unknown speaker \['human'\]"),
        ({"image": {"path": 5}, "conversations": turns("<image>", "a")}, "not a file's name: 5"),
        ({"image": "iVBORw0K" * 999, "conversations": turns("<image>", "a")}, r"name: (iVBORw0K){5}…\n  fix: .*base64"),
        (3, "record 7: not an object"),
        ({"id": "x"}, r"\(id x\): the key 'conversations' is missing"),
        ({"conversations": "text"}, "'conversations' is not a list"),
        ({"messages": {}}, "'messages' is not a list"),
        ({"conversations": [3]}, "turn 0: a turn needs the keys"),
        ({"conversations": [{"from": "human"}]}, "turn 0: a turn needs the keys"),
        ({"conversations": [{"from": "bot", "value": "q"}]}, "turn 0: unknown speaker 'bot'"),
        ({"conversations": turns("q", " ")}, "turn 1: the text is empty"),
        ({"conversations": turns("q", True)}, "turn 1: the text is empty"),
        ({"texts": [{"user": "q"}]}, "needs the keys 'user' and 'assistant'"),
        ({"query": "q", "response": "a", "history": ["q"]}, "'history' is not a list of pairs"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "'chosen' and 'rejected' are the same"),
        ({"chosen": "a", "rejected": "b"}, "'prompt' is missing"),
        ({"prompt": "q", "chosen": [*SAID, *ASKED, *SAID], "rejected": "b"}, "not one answer each"),
        ({"prompt": "q", "chosen": SAID, "rejected": ASKED}, "'rejected' is not the assistant's"),
        ({"conversations": turns("q")}, "no turn is the assistant's"),
        ({"conversations": turns("q", "a")[::-1]}, "turn 0 is out of order"),
        ({"conversations": [*turns("q", "a"), {"from": "system", "value": "s"}]}, "turn 2 is out of order"),
        ({"conversations": [{"from": "system", "value": "s"}, *turns("q", "a")[::-1]]}, "turn 1 is out of order"),
        ({"conversations": [{"from": "system", "value": "s"}]}, "no turn is the assistant's"),
        ({"conversations": turns("q", "a", "q")}, "the last turn is the user's"),
        ({"conversations": turns("<image>q", "a")}, "<image> without an image"),
        ({"image": [], "conversations": turns("<image>q", "a")}, "<image> without an image"),
        ({"image": "a", "conversations": turns("<image><image>", "a")}, "stands 2 times in it, for 1 image"),
        ({"images": ["a", "b"], "conversations": turns("<image>", "a")}, "stands 1 times in it, for 2 image"),
        ({"image": "", "conversations": turns("q", "a")}, "not a file's name"),
        ({"image": 3, "conversations": turns("q", "a")}, "not a file's name"),
        ({"image": {"bytes": None, "path": None}, "conversations": turns("q", "a")}, "neither bytes nor a path"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "neither text nor an image"),
        ({"messages": [{"role": "user", "content": ["q"]}]}, "neither text nor an image"),
        ({"messages": [{"role": "user", "content": [URL, {"type": "text", "text": "<image>?"}]}]}, "contains <image>"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "a"}]},
         "<image> without an image"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(row)
    assert str(caught.value).startswith("x: record 7")

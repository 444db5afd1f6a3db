from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune.data.conversation import to_conversation
from vistune.data.questions import read_questions
from vistune.errors import DataError


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_rows_of_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": "1.png", "question": "What is it?", "answer": "A dog, barking", "category": "what"},
        {"id": "b", "image": "2.png", "question": "Which?", "choices": ["cat", "dog"], "answer": "B"},
        {"id": "c", "image": "2.png", "question": "Colour?", "answers": ["red", "dark red"]},
    ]
    (tmp_path / "rows.csv").write_text(
        "id,image,question,answer,category,choices,answers\n"
        'a,1.png,What is it?,"A dog, barking",what,,\n'
        "b,2.png,Which?,B,,cat|dog,\n"
        'c,2.png,Colour?,,,,"[""red"", ""dark red""]"\n'
    )
    a, b, c = read_questions(written(tmp_path / "rows.jsonl", rows))
    for one, other in zip((a, b, c), read_questions(tmp_path / "rows.csv"), strict=True):
        assert (one.id, one.images, one.prompt, one.answers, one.choices, one.category) == (
            other.id, other.images, other.prompt, other.answers, other.choices, other.category
        )  # fmt: skip
    assert b.prompt == "Which?\nA. cat\nB. dog\nAnswer with the option's letter from the given choices directly."
    assert (b.answers, c.answers) == (("dog",), ("red", "dark red"))


def test_an_imported_question_trains_and_is_read_again(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "image": "2.png", "question": "Which?", "A": "cat", "B": "dog", "answer": "dog", "type": "choice"}
    ]
    (question,) = read_questions(written(tmp_path / "rows.jsonl", rows))
    row = question.training_row()
    conversation = to_conversation(row, 0, "", lambda value, _: str(value))
    assert conversation.turns[0].text == f"<image>\n{question.prompt}"
    assert conversation.turns[1].text == "B"
    (again,) = read_questions(written(tmp_path / "again.json", [row]))
    assert (again.prompt, again.answers, again.choices, again.type) == (
        question.prompt,
        ("dog",),
        ("cat", "dog"),
        "choice",
    )


def test_each_exchange_of_a_conversation_is_a_question(tmp_path: Path) -> None:
    turns = [("human", "<image>\nHow many?"), ("gpt", "Two."), ("human", "Where?"), ("gpt", "Left.")]
    row = {"id": "x", "image": "1.png", "conversations": [{"from": who, "value": text} for who, text in turns]}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    first, second = read_questions(tmp_path / "rows.json")
    assert [(q.id, q.prompt, q.answers) for q in (first, second)] == [
        ("x/0", "How many?", ("Two.",)), ("x/1", "Where?", ("Left.",))
    ]  # fmt: skip
    assert first.images == second.images == ("1.png",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "1.png", "answer": "x"}, r"line 1: the question is missing.*\n.*image, answer"),
        ({"image": "1.png", "question": "?", "choices": ["a", "b"], "answer": "C"}, "'C' is none of the 2 choices"),
        ({"image": {"bytes": "x"}, "question": "?", "answer": "C"}, "inside the row"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        list(read_questions(written(tmp_path / "rows.jsonl", [row])))

"""Rows with a question about an image and its answer, in the layouts that people have.

- one row a question: `image` (or `images`), `question`, and `answer`, `answers` or `choices`, perhaps with `id`, `type`
  (the rule that scores an answer) and `category`; in CSV, several answers or choices stand as `a|b|c` or a JSON list;
- LLaVA's `conversations` and OpenAI's `messages`: each question with the answer that follows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from vistune.data.conversation import file_name, to_conversation
from vistune.errors import DataError
from vistune.formats import read_as
from vistune.formats.conversations import to_llava
from vistune.records import IMAGE_TOKEN, Conversation, Turn

_NAMES = {
    "question": ("question", "prompt", "query", "text", "instruction"),
    "answers": ("answers", "answer", "label", "output", "ground_truth", "gt_answer"),
    "choices": ("choices", "options"),
    "category": ("category",),
    "type": ("type",),
    "images": ("images", "image", "image_path", "file_name", "filename", "img_path"),
    "id": ("id", "question_id", "qid"),
}
ANSWER_WITH_LETTER = "Answer with the option's letter from the given choices directly."
"""LLaVA-1.5's instruction for multiple choice."""


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question with its image files, as the file names them.

    `prompt` is what a model gets; `answers` are right ones, of `choices` (texts) if there are any. `type` is the rule
    that scores an answer, "" for the usual one. `where` names the row in messages.
    """

    id: str
    images: tuple[str, ...]
    prompt: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    type: str = ""
    category: str = ""
    where: str = ""

    def training_row(self) -> dict[str, Any]:
        """The question and its first answer, of a choice its letter, in LLaVA's layout; what scores it stays beside.

        Raises DataError if it has no answer.
        """
        if not self.answers:
            raise DataError("it has no answer to learn", where=self.where)
        target = ascii_uppercase[self.choices.index(self.answers[0])] if self.choices else self.answers[0]
        turns = Turn("user", f"{IMAGE_TOKEN}\n" * len(self.images) + self.prompt), Turn("assistant", target)
        kept = {"answers": self.answers, "choices": self.choices, "type": self.type, "category": self.category}
        row = to_llava(Conversation(self.id, turns, self.images))
        return row | {key: value for key, value in kept.items() if value}


def read_questions(path: Path) -> Iterator[QuestionRow]:
    """The questions of a file. Raises DataError, with file and row, for one that cannot be used."""
    numbers = count(1)
    for questions in read_as(path, DataError, lambda row: _of_row(row.values, next(numbers), row.where)):
        yield from questions


def _of_row(values: Mapping[str, Any], number: int, where: str) -> list[QuestionRow]:
    if "conversations" in values or "messages" in values:
        return list(_from_conversation(values, number, where))
    return [_from_row(values, number, where)]


def _from_row(values: Mapping[str, Any], number: int, where: str) -> QuestionRow:
    question = _value(values, "question")
    if not isinstance(question, str) or not question.strip():
        fix = f"it has the keys {', '.join(values)}"
        raise DataError("the question is missing: a text under 'question'", where=where, fix=fix)
    choices = _texts(_value(values, "choices")) or tuple(
        str(values[letter]) for letter in ascii_uppercase if values.get(letter) not in (None, "")
    )
    answers = _texts(_value(values, "answers"), several=_name(values, "answers") == "answers")
    if choices:
        answers = tuple(_choice(answer, choices, where) for answer in answers)
    kind, category = (str(_value(values, key) or "") for key in ("type", "category"))
    name = _value(values, "id")
    prompt = _with_choices(question.strip(), choices)
    return QuestionRow(
        str(number if name is None else name), _images(values, where), prompt, answers, choices, kind, category, where
    )


def _with_choices(question: str, choices: tuple[str, ...]) -> str:
    """The question with the choices listed under letters, and LLaVA-1.5's instruction."""
    listed = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, choices, strict=False)]
    return "\n".join([question, *listed, ANSWER_WITH_LETTER]) if choices else question


def _from_conversation(values: Mapping[str, Any], number: int, where: str) -> Iterator[QuestionRow]:
    """Each question with its answer; `answers`, `choices`, `type` and `category` may stand beside a single one."""
    conversation = to_conversation(values, number, where, lambda value, _: _file(value, where))
    turns = [turn for turn in conversation.turns if turn.role != "system"]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    kind, category = (str(_value(values, key) or "") for key in ("type", "category"))
    for index, (question, answer) in enumerate(pairs):
        text = question.text.replace(IMAGE_TOKEN, "").strip()
        choices = _texts(values.get("choices")) if len(pairs) == 1 else ()
        given = _texts(values.get("answers")) if len(pairs) == 1 else ()
        name = conversation.id if len(pairs) == 1 else f"{conversation.id}/{index}"
        yield QuestionRow(
            name, conversation.images, text, given or (answer.text,), choices, kind,
            category or conversation.kind, where,
        )  # fmt: skip


def _name(values: Mapping[str, Any], key: str) -> str | None:
    return next((name for name in _NAMES[key] if values.get(name) not in (None, "")), None)


def _value(values: Mapping[str, Any], key: str) -> Any:
    name = _name(values, key)
    return None if name is None else values[name]


def _texts(value: Any, *, several: bool = True) -> tuple[str, ...]:
    """A list's items as texts; of VQA's `{"answer": …}` the answer. A text may be `a|b` or a JSON list.

    A list of numbers is one text: a box.
    """
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return (", ".join(map(str, value)),)
    if isinstance(value, str) and several:
        value = json.loads(value) if _is_json_list(value) else value.split("|")
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(item["answer"] if isinstance(item, dict) and "answer" in item else item) for item in items)


def _is_json_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _text(item: Any) -> str:
    return item.strip() if isinstance(item, str) else json.dumps(item)


def _choice(answer: str, choices: tuple[str, ...], where: str) -> str:
    """The choice that an answer names by its text, its letter or its index from 0."""
    if answer in choices:
        return answer
    index = int(answer) if answer.isdecimal() else ascii_uppercase.find(answer.upper()) if len(answer) == 1 else -1
    if not 0 <= index < len(choices):
        fix = "write a choice's text, its letter, or its index from 0"
        raise DataError(f"the answer '{answer}' is none of the {len(choices)} choices", where=where, fix=fix)
    return choices[index]


def _images(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = _value(values, "images")
    items = found if isinstance(found, list) else [] if found is None else [found]
    return tuple(_file(item, where) for item in items)


def _file(value: Any, where: str) -> str:
    name = file_name(value)
    if name is None:
        fix = "write the images to files, and their paths into the rows"
        raise DataError("an image stands inside the row, not in a file", where=where, fix=fix)
    return name

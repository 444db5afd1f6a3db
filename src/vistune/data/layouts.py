"""The turns of a row, in any of the layouts that people have.

- LLaVA and ShareGPT: `conversations`; OpenAI, TRL, axolotl, ms-swift: `messages`;
- TRL: `prompt` and `completion`, each a text or messages;
- the_cauldron and FineVision: `texts: [{"user": text, "assistant": text}, …]`;
- ms-swift: `query` and `response`, with `history: [[query, response], …]`;
- LLaMA-Factory (alpaca): `instruction`, `input` and `output`, with `history`;
- `question` and `answer`.

Preferences have `chosen` and `rejected` answers, texts or messages: with any of the keys of a question or of a whole
conversation (TRL's `prompt`, LLaMA-Factory's `conversations`), or alone, when both begin with the same messages (TRL).
In ms-swift `rejected_response` stands beside a whole conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vistune.errors import DataError

PAIRS = {"prompt": "completion", "query": "response", "instruction": "output", "question": "answer"}
"""The keys of a question and of its answer."""
TURNS = ("conversations", "messages", "texts")
"""The keys of whole conversations."""
PREFERENCE = ("chosen", "rejected")
"""The keys of a pair of answers."""
_REJECTED = "rejected_response"
KEYS = (*TURNS, *PAIRS, *PAIRS.values(), "input", "history", *PREFERENCE, _REJECTED)
_FIX = "'conversations' or 'messages' holds the turns; other keys are mapped by `columns` in the recipe"


def layout(keys: Mapping[str, Any]) -> str | None:
    """The key of the turns, or of the question, that a row or a table has; None if there is none."""
    if is_preference(keys):
        return "chosen"
    whole = next((key for key in TURNS if keys.get(key) is not None), None)
    pairs = (key for key, answer in PAIRS.items() if keys.get(key) is not None and keys.get(answer) is not None)
    return whole or next(pairs, None)


def turns_of(row: Mapping[str, Any], where: str) -> list[Any]:
    """The turns as objects with `from` and `value`, or `role` and `content`. Raises DataError if there are none."""
    if is_preference(row):
        return _preference(row, where)[0]
    key = layout(row)
    if key is None:
        raise DataError("the key 'conversations' is missing", where=where, fix=_FIX)
    if key in TURNS and not isinstance(row[key], list):
        raise DataError(f"'{key}' is not a list", where=where)
    if key == "texts":
        return [turn for pair in row[key] for turn in _exchange(*_both(pair, where))]
    if key in TURNS:
        return list(row[key])
    return [*_asked(row, key, where), *_messages("assistant", row[PAIRS[key]])]


def is_preference(row: Mapping[str, Any]) -> bool:
    """Whether a row, or a table with these keys, holds pairs of answers."""
    return row.get(_REJECTED) is not None or all(row.get(key) is not None for key in PREFERENCE)


def rejected_of(row: Mapping[str, Any], where: str) -> Any:
    """The rejected answer of a preference, as an object of a turn. Raises DataError as `turns_of`."""
    return _preference(row, where)[1]


def _preference(row: Mapping[str, Any], where: str) -> tuple[list[Any], Any]:
    """The turns that end with the chosen answer, of which only that is learned, and the rejected one."""
    if row.get(_REJECTED) is not None:
        turns = turns_of({key: value for key, value in row.items() if key != _REJECTED}, where)
        return [*map(_unlearned, turns[:-1]), *turns[-1:]], {"role": "assistant", "content": row[_REJECTED]}
    chosen, rejected = (_messages("assistant", row[key]) for key in PREFERENCE)
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    if len(chosen) != same + 1 or len(rejected) != same + 1:
        fix = "the messages before them, the same for both, are the prompt"
        raise DataError("'chosen' and 'rejected' are not one answer each", where=where, fix=fix)
    key = next((key for key in (*TURNS, *PAIRS) if row.get(key) is not None), None)
    asked = turns_of({key: row[key]}, where) if key in TURNS else _asked(row, key, where) if key else []
    before = [_unlearned(turn) for turn in (*asked, *chosen[:same])]
    if not before:
        raise DataError("the key 'prompt' is missing", where=where, fix="'prompt' holds the question of the pair")
    return [*before, chosen[-1]], rejected[-1]


def _unlearned(turn: Any) -> Any:
    """The turn; an answer is only read."""
    answers = isinstance(turn, dict) and (turn.get("role") or turn.get("from")) in ("assistant", "gpt")
    return {**turn, "loss": False} if answers else turn


def _asked(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The history and the question that `key` holds."""
    history = [turn for question, answer in _history(row, where) for turn in _exchange(question, answer)]
    question = row[key]
    if key == "instruction" and row.get("input"):
        question = f"{question}\n{row['input']}"  # as LLaMA-Factory joins them
    return [*history, *_messages("user", question)]


def _exchange(question: Any, answer: Any) -> list[Any]:
    """Both as messages; TRL's prompt may be several, a system's among them."""
    return [*_messages("user", question), *_messages("assistant", answer)]


def _messages(role: str, content: Any) -> list[Any]:
    if isinstance(content, list) and content and isinstance(content[0], dict) and "role" in content[0]:
        return content
    if isinstance(content, dict) and ("role" in content or "from" in content):
        return [content]  # LLaMA-Factory's chosen and rejected
    return [{"role": role, "content": content}]


def _both(pair: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(pair, dict) or not {"user", "assistant"} <= pair.keys():
        raise DataError("an entry of 'texts' needs the keys 'user' and 'assistant'", where=where)
    return pair["user"], pair["assistant"]


def _history(row: Mapping[str, Any], where: str) -> list[Any]:
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in history):
        raise DataError("'history' is not a list of pairs [question, answer]", where=where)
    return history

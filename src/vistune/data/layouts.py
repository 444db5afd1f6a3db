"""The turns of a row, in any of the layouts that people have.

- LLaVA and ShareGPT: `conversations`; OpenAI, TRL, axolotl, ms-swift: `messages`;
- TRL: `prompt` and `completion`, each a text or messages;
- the_cauldron and FineVision: `texts: [{"user": text, "assistant": text}, …]`;
- ms-swift: `query` and `response`, with `history: [[query, response], …]`;
- LLaMA-Factory (alpaca): `instruction`, `input` and `output`, with `history`;
- `question` and `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vistune.errors import DataError

PAIRS = {"prompt": "completion", "query": "response", "instruction": "output", "question": "answer"}
"""The keys of a question and of its answer."""
TURNS = ("conversations", "messages", "texts")
"""The keys of whole conversations."""
KEYS = (*TURNS, *PAIRS, *PAIRS.values(), "input", "history")
_FIX = "'conversations' or 'messages' holds the turns; other keys are mapped by `columns` in the recipe"


def layout(keys: Mapping[str, Any]) -> str | None:
    """The key of the turns, or of the question, that a row or a table has; None if there is none."""
    whole = next((key for key in TURNS if keys.get(key) is not None), None)
    pairs = (key for key, answer in PAIRS.items() if keys.get(key) is not None and keys.get(answer) is not None)
    return whole or next(pairs, None)


def turns_of(row: Mapping[str, Any], where: str) -> list[Any]:
    """The turns as objects with `from` and `value`, or `role` and `content`. Raises DataError if there are none."""
    key = layout(row)
    if key is None:
        if row.get("chosen") is not None:
            raise DataError("preferences ('chosen', 'rejected') are not supported", where=where)
        raise DataError("the key 'conversations' is missing", where=where, fix=_FIX)
    if key in TURNS and not isinstance(row[key], list):
        raise DataError(f"'{key}' is not a list", where=where)
    if key == "texts":
        return [turn for pair in row[key] for turn in _exchange(*_both(pair, where))]
    if key in TURNS:
        return list(row[key])
    history = [turn for question, answer in _history(row, where) for turn in _exchange(question, answer)]
    question = row[key]
    if key == "instruction" and row.get("input"):
        question = f"{question}\n{row['input']}"  # as LLaMA-Factory joins them
    return [*history, *_exchange(question, row[PAIRS[key]])]


def _exchange(question: Any, answer: Any) -> list[Any]:
    """Both as messages; TRL's prompt may be several, a system's among them."""
    return [*_messages("user", question), *_messages("assistant", answer)]


def _messages(role: str, content: Any) -> list[Any]:
    if isinstance(content, list) and content and isinstance(content[0], dict) and "role" in content[0]:
        return content
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

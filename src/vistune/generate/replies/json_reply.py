"""Replies in the JSON format: `{"turns": [{"question": …, "answer": …}]}`, or `{"answer": …}`.

Strict JSON first; then, where the reply ends too early, its complete turns; then the package json_repair. What that
returns counts only if it has the same letters in the same order as the reply, for it also guesses.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import json_repair

from vistune.generate.replies.cleaning import is_json
from vistune.generate.replies.text import ReplyError, role_of, role_words, text_pairs

_CONTAINERS = (
    "turn", "turns", "conversation", "conversations", "dialogue", "dialogues", "pairs", "qa", "qas", "qa_pairs",
    "qapairs", "qa_pair", "question_answer_pairs", "questions", "answers", "messages", "from", "role", "data", "id",
    "对话",
)  # fmt: skip
_MORE_WORDS = {"q": ("prompt", "instruction"), "a": ("output", "value", "content", "text", "description",
    "detailed_description", "caption")}  # fmt: skip
"""Further keys of questions and answers."""
_ONE_TEXT = re.compile(r"\s*(?:[\[{]\s*){1,3}[\"'\u201c]\w[^\"'\u201d]*[\"'\u201d]\s*:")
_NUMBERED_KEY = re.compile(r"(?:question|answer|q|a|user|assistant)[_ ]?(\d{1,9})")
_TOO_DEEP = re.compile(r"(?:\s*[\[{]){9}")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}"]', re.DOTALL)  # a lone quote opens a string that never ends
_CURLY = str.maketrans("\u201c\u201d", '""')
_CLOSING = {"{": "}", "[": "]"}
_SWALLOWED = re.compile(r"""(?:\\"|['\u201d])\s*[:}\]]|[{\[]\s*(?:\\"|['\u201c])""")
"""What is left of quotes and brackets where a string has swallowed the next one, in a value as JSON."""
_MAX_DEPTH = 8
"""Ours is three deep; what is nested further is never a dialogue, and deep enough it ends every recursive parser."""
_MAX_REPAIR = 200_000
"""Characters that json_repair gets to see."""


@cache
def _start() -> re.Pattern[str]:
    """The beginning of an object with one of the keys of a dialogue."""
    words = "|".join(sorted(map(re.escape, (*_CONTAINERS, *role_words())), key=len, reverse=True))
    return re.compile(rf"(?:[\[{{]\s*){{1,4}}[\"'\u201c](?:{words}|question_?\d+|q\d+)\b", re.IGNORECASE)


def looks_like_json(text: str) -> bool:
    """Whether a reply is JSON, or holds an object with one of our keys, complete or not."""
    if is_json(text):
        return True
    start = _start().search(text)
    if start is None:
        return _TOO_DEEP.match(text) is not None
    return "===" not in text[: start.start()] and len(text[: start.start()].split()) <= 30


def looks_like_one_text(text: str) -> bool:
    """Whether a reply is an object with some key."""
    return _ONE_TEXT.match(text) is not None


def read_pairs(text: str, repairs: list[str]) -> list[tuple[str, str]]:
    """The questions with their answers. Raises ReplyError."""
    value = _value(text, repairs, drop_incomplete=True)
    if isinstance(value, dict) and len(value) == 1 and "\n" in str(inner := next(iter(value.values()))):
        return text_pairs(str(inner), repairs)  # the whole dialogue as one text
    turns = _turns(value)
    spoken = [_spoken(turn) for turn in turns]
    if len(turns) > 1 and all(spoken):
        pairs = _alternating([one for one in spoken if one and one[0]])
    else:
        pairs = [(_text(turn, "q"), _text(turn, "a")) for turn in turns]
    if not pairs:
        raise ReplyError("empty_reply")
    return pairs


def _spoken(turn: Any) -> tuple[str, str] | None:
    """Who says what in a turn such as `{"from": "human", "value": …}` or `{"role": "user", "content": …}`."""
    if not isinstance(turn, dict):
        return None
    if len(turn) == 1:
        turn = {"role": next(iter(turn)), "text": next(iter(turn.values()))}
    speaker = next((str(turn[name]) for name in ("from", "role", "speaker", "type") if name in turn), "")
    texts = [text for name in ("value", "content", "text", "message") if (text := _joined(turn.get(name))) is not None]
    known = role_of(speaker) or speaker.lower() == "system"
    return (role_of(speaker), texts[0]) if known and texts else None


def _joined(content: Any) -> str | None:
    """A text, or those of a list of parts together; None for anything else."""
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    return content if isinstance(content, str) else None


def _alternating(spoken: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if [role for role, _ in spoken] != ["q", "a"] * (len(spoken) // 2):
        raise ReplyError("wrong_order")
    texts = [text.strip() for _, text in spoken]
    if not all(texts):
        raise ReplyError("empty_turn")
    return list(zip(texts[::2], texts[1::2], strict=True))


def read_answer(text: str, repairs: list[str]) -> str:
    """The answer, or the one text of an object under another key. Raises ReplyError, also for a truncated one."""
    value = _value(text, repairs, drop_incomplete=False)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        value = inner
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, dict) and _start().search(text):
        return _text(value, "a")
    texts = list(value.values()) if isinstance(value, dict) else []
    if len(texts) != 1 or not isinstance(texts[0], str) or not texts[0].strip():
        raise ReplyError("wrong_schema")
    repairs.append("other_key")
    return texts[0].strip()


def _value(text: str, repairs: list[str], drop_incomplete: bool) -> Any:
    """The reply's JSON as Python objects, with harmless mistakes repaired. Raises ReplyError."""
    if is_json(text):
        return json.loads(text)
    start = _start().search(text) or _ONE_TEXT.match(text)
    if start is None:
        raise ReplyError("broken_json")
    body = text[start.start() :]
    if '"' not in body and body != (body := body.translate(_CURLY)):
        repairs.append("quotes")
    body = _without_chatter(body, repairs)
    ended = body.rstrip().endswith(("}", "]"))
    value = _decoded(body, repairs)
    if value is None and (complete := _complete(body)) and drop_incomplete:
        value = _decoded(complete, repairs) or _repaired(complete, repairs)
        repairs += ["truncated"] if value else []
    if value is None and ended:  # a quote too many looks like a string without an end
        value = _repaired(body, repairs)
    if value is None:
        raise ReplyError("broken_json" if ended else "truncated")
    repairs += ["chatter"] if text[: start.start()].strip() else []
    return value


def _without_chatter(body: str, repairs: list[str]) -> str:
    """The body up to its last bracket, if only words without quotes follow it."""
    end = max(body.rfind("}"), body.rfind("]")) + 1
    if not end or '"' in body[end:] or not re.search(r"[^\W\d_]{2}", body[end:]):
        return body
    repairs.append("chatter")
    return body[:end]


def _decoded(body: str, repairs: list[str]) -> Any:
    """The value of strict JSON, or of JSON but for raw line ends, or a list of several; None for anything else."""
    for strict in (True, False):
        try:
            values, end = _objects(body, json.JSONDecoder(strict=strict))
        except (ValueError, RecursionError):
            continue
        repairs += [] if strict else ["raw_text"]
        repairs += ["several_objects"] if len(values) > 1 else []
        repairs += ["chatter"] if body[end:].strip(" \n\t,`") else []
        return values if len(values) > 1 else values[0]
    return None


def _objects(body: str, decoder: json.JSONDecoder) -> tuple[list[Any], int]:
    """The objects that follow each other, with any words between, and where the last ends. Raises ValueError."""
    value, end = decoder.raw_decode(body)
    values = [value]
    while start := _start().search(body, end):
        value, end = decoder.raw_decode(body, start.start())
        values.append(value)
    return values, end


def _complete(body: str) -> str:
    """A body that ends too early, up to its last complete object and with all brackets closed; else the empty text.

    Raises ReplyError where it is nested deeper than any dialogue.
    """
    stack, closing, end = "", "", 0
    for token in _TOKEN.finditer(body):
        if token[0] in _CLOSING:
            stack += _CLOSING[token[0]]
            if len(stack) > _MAX_DEPTH:
                raise ReplyError("broken_json")
        elif token[0] == '"':
            break
        elif stack.endswith(token[0]):
            stack = stack[:-1]
            if token[0] == "}" or not stack:
                closing, end = stack[::-1], token.end()
    return body[:end] + closing if stack and end else ""


def _repaired(body: str, repairs: list[str]) -> Any:
    """What json_repair makes of the body; None where it leaves out, adds, swaps or swallows something."""
    if len(body) > _MAX_REPAIR:
        return None
    body = body[: max(body.rfind("}"), body.rfind("]")) + 1]
    try:
        value = json_repair.loads(f"[{body}]", skip_json_loads=True)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return None
    dumped = json.dumps(value, ensure_ascii=False)
    if _SWALLOWED.search(dumped) or _letters(dumped) != _letters(body):
        return None
    repairs.append("json")
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _letters(text: str) -> list[str]:
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return re.findall(r"[^\W_]", re.sub(r"\\.", "", text))


def _turns(value: Any) -> list[Any]:
    """The turns or pairs in a value: of a list under any key, of numbered or parallel keys, or the value itself."""
    if isinstance(value, dict):
        named = {str(key).lower(): content for key, content in value.items()}
        lists = [content for content in named.values() if isinstance(content, list)]
        questions, answers = named.get("questions"), named.get("answers")
        if isinstance(questions, list) and isinstance(answers, list) and len(questions) == len(answers):
            return [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
        if len(lists) == 1:
            return _turns(lists[0])
        if numbered := sorted({int(found[1]) for key in named if (found := _NUMBERED_KEY.fullmatch(key))}):
            return [_at(named, number) for number in numbered]
        if len(named) > 1 and all(key.strip().endswith(("?", "\uff1f")) for key in named):
            return [{"question": q, "answer": a} for q, a in value.items()]
        if len(named) == 1 and isinstance(inner := next(iter(named.values())), dict):
            return _turns(inner)
        return [value]
    if not isinstance(value, list):
        raise ReplyError("wrong_schema")
    if value and all(isinstance(one, list) and len(one) == 2 for one in value):
        return [{"question": q, "answer": a} for q, a in value]
    if len(value) > 2 and all(isinstance(one, str) for one in value):
        return [{"role": "qa"[at % 2], "text": one} for at, one in enumerate(value)]
    return [
        turn for one in value for turn in (_turns(one) if isinstance(one, dict) and _spoken(one) is None else [one])
    ]


def _at(named: dict[str, Any], number: int) -> dict[str, Any]:
    """The pair of keys that end in a number: `question2` and `answer2`."""
    ends = {key: found[1] for key in named if (found := _NUMBERED_KEY.fullmatch(key))}
    return {key.removesuffix(end).rstrip("_ "): named[key] for key, end in ends.items() if int(end) == number}


def _text(turn: Any, role: str) -> str:
    """The question (`q`) or the answer (`a`) of a pair. Raises ReplyError."""
    named = {str(key).lower(): content for key, content in turn.items()} if isinstance(turn, dict) else {}
    texts = [
        text
        for name, text in named.items()
        if isinstance(text, str) and (role_of(name) == role or name in _MORE_WORDS[role])
    ]
    if not texts:
        raise ReplyError("wrong_schema")
    if not texts[0].strip():
        raise ReplyError("empty_turn")
    return texts[0].strip()

"""Replies in the text format: `Question:` and `Answer:` blocks between lines of `===`, or in a form like it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from vistune.resources import load_yaml

_SEPARATOR = re.compile(r"^[ \t*_`]*={3,}[ \t*_`]*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$", re.MULTILINE)
_STRICT = re.compile(r"\s*(question|answer)[ \t]*:", re.IGNORECASE)
_TAG = re.compile(
    r"[ \t]*<(/?)(question|answer|q|a|dt|dd|user|human|assistant|gpt|message)"
    r"(?:\s[^<>\n]*?role=[\"'](\w+)[\"'])?[^<>\n]*>[ \t]*",
    re.IGNORECASE,
)
_OUTER_TAG = re.compile(r"[ \t]*</?(?:qa|pair|turns?|item|conversation|dialogue|entry|dl|list)\b[^<>\n]*>[ \t]*\n?")
_ROW = re.compile(r"^[ \t]*\|(.+)\|[ \t]*$", re.MULTILINE)
_NUMBERED = re.compile(
    r"^[ \t]*[*_]{0,2}(?:#{1,6}[ \t]*)?(?:\d{1,2}|[ivx]{1,4}|[a-z])[.)][ \t]*[*_]{0,2}[ \t]*(?=\S)",
    re.MULTILINE | re.IGNORECASE,
)
_BOLD_QUESTION = re.compile(
    r"^[ \t]*(?:[*_]{1,3}(.+?[?\uff1f])[*_]{1,3}|#{1,6}[ \t]+(.+?[?\uff1f]))[ \t]*$", re.MULTILINE
)
_SECTION = re.compile(r"^[^\w\n]*([^\W\d_]{2,12})[ \t]*#?\d{1,2}[^\w\n]*$\n?", re.MULTILINE)
"""A line that numbers what follows: `Turn 2`, `### Round 2`, `Pair 2:`."""
_Block = tuple[str, str]
"""A block's role, `q` or `a`, and its text."""


class ReplyError(Exception):
    """A reply has neither the requested form nor one that can be repaired; the message is a reason code.

    `empty_reply`, `unfinished_thinking` (thoughts alone), `refusal`, `unmarked_block` (neither question nor answer),
    `wrong_order` (turns do not alternate, question first), `empty_turn`, `unanswered` (a question alone), `truncated`
    (nothing whole is left), `broken_json`, `wrong_schema`.
    """


def text_pairs(text: str, repairs: list[str], cut: bool = False) -> list[tuple[str, str]]:
    """The questions with their answers; `cut`: the reply's last block is not whole. Raises ReplyError."""
    if "\n" not in text.strip():
        text = text.replace(" === ", "\n===\n")
    text = _SECTION.sub(lambda line: line[0] if role_of(line[1]) else "", text)
    blocks = _unquoted(_blocks(text, repairs))
    if blocks[:1] == [("a", "")]:  # a heading: "Final answer:"
        del blocks[0]
    if not blocks:
        raise ReplyError("empty_reply")
    for index, (role, _) in enumerate(blocks):
        if role != "qa"[index % 2]:
            raise ReplyError("wrong_order")
    if len(blocks) % 2:
        if len(blocks) == 1:
            raise ReplyError("unanswered")
        blocks.pop()
        repairs.append("truncated")
    elif cut or (not blocks[-1][1] and len(blocks) > 2):
        del blocks[-2:]
        repairs.append("truncated")
    if not blocks:
        raise ReplyError("truncated")
    texts = [text for _, text in blocks]
    if not all(texts):
        raise ReplyError("empty_turn")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _unquoted(blocks: list[_Block]) -> list[_Block]:
    """The blocks without quotation marks, if all are within some."""
    quoted = [re.fullmatch(r'"([^"]*)"', text) for _, text in blocks]
    if not all(quoted):
        return blocks
    return [(role, found[1]) for (role, _), found in zip(blocks, quoted, strict=True) if found]


def without_marker(text: str, repairs: list[str]) -> str:
    """An answer without an `Answer:` or `Assistant:` at its head."""
    for pattern, roles in _families():
        marker = pattern.match(text)
        if marker and len(_word(marker)) > 1 and roles[_word(marker)] == "a":
            repairs.append("marker")
            return text[marker.end() :].strip()
    return text


def _blocks(text: str, repairs: list[str]) -> list[_Block]:
    if found := _from_table(text) or _from_tags(text):
        repairs.append("marker")
        return found
    family = _family(text)
    if family is None:
        found = _from_numbers(text) or _from_bold(text)
        if not found and text.strip(" \n="):
            raise ReplyError("unmarked_block")
        repairs += ["marker", "separator"] if found else []
        return found
    found = _from_markers(text, family, repairs)
    if len(found) > 1 and all(role == "q" for role, _ in found):  # the answers have no marker
        return _from_lines([text for _, text in found]) or found
    return found


# --- markers: "Question:", "### Question 1", "**User:**", "Frage:"

_ADJECTIVES = (
    r"(?:sample|example|follow-?up|next|first|second|third|fourth|fifth|last|final|possible|correct|expected)[ \t]+"
)
_Family = tuple[re.Pattern[str], dict[str, str]]
"""The pattern of a family's markers, and its words with their roles."""


def _family(text: str) -> _Family | None:
    """The family of the first marker; of two with the same first one, that with more markers."""
    found = [(marker.start(), -len(pattern.findall(text)), (pattern, roles))
             for pattern, roles in _families() if (marker := pattern.search(text))]  # fmt: skip
    questions = [one for one in found if one[1] < -1 or len(found) == 1]
    return min(questions or found, key=lambda one: one[:2])[2] if found else None


@cache
def _families() -> tuple[_Family, ...]:
    families = []
    for words in load_yaml("vistune.generate.replies", "markers.yaml"):
        roles = {word: role for role in "qa" for word in words[role]}
        names = "|".join(sorted(map(re.escape, roles), key=len, reverse=True))
        number = r"[ \t]*\#?[ \t]*\d*(?:[ \t]*(?:/|of)[ \t]*\d+)?(?:[ \t]*\([^()\n]{1,30}\))?"
        before = rf"^(?:[^\w\n]|_){{0,12}}(?:\(?\d+[.)][ \t]*)?[*_\[]{{0,3}}(?:{_ADJECTIVES})?"
        bare = "|".join(name for name in roles if len(name) > 2) or "(?!)"
        forms = (
            rf"{before}(?P<word>{names}){number}[ \t]*[*_\]]{{0,3}}[ \t]*[:\uff1a][*_]{{0,2}}",
            rf"^[ \t]*(?:\#{{1,6}}[ \t]*|[*_]{{2}}|\[)(?P<heading>{names}){number}[*_\]]{{0,3}}[ \t]*$",
            rf"^[ \t]*(?P<bare>{bare})[ \t]*\d*(?:[ \t]*$|[ \t]+[\u2013\u2014-][ \t]+)",
            rf"^[ \t]*[*_]{{0,2}}[\[(](?P<bracket>{names}){number}[\])][*_]{{0,2}}[ \t]+",
            rf"^[ \t]*(?P<short>{names})\d+[.)][ \t]",
        )
        pattern = re.compile("|".join(forms), re.IGNORECASE | re.MULTILINE)
        families.append((pattern, roles))
    return tuple(families)


def _word(marker: re.Match[str]) -> str:
    return next(word for word in marker.groupdict().values() if word).lower()


def _from_markers(text: str, family: _Family, repairs: list[str]) -> list[_Block]:
    parts = _SEPARATOR.split(text)
    if len(parts) == 1 and _RULE.search(text):
        parts = _RULE.split(text)
        repairs.append("separator")
    parts = [part for part in parts if part.strip()]
    found: list[_Block] = []
    for index, part in enumerate(parts):
        marked = _marked(part, family, repairs, first=not found, maximum=2 if len(parts) > 1 else None)
        if marked:
            found += marked
        elif index == 0 or (index == len(parts) - 1 and found and found[-1][0] == "a"):
            repairs.append("chatter")  # before the first question or after the last answer
        else:
            raise ReplyError("unmarked_block")
    if parts and not found:
        raise ReplyError("unmarked_block")
    return found


def _marked(part: str, family: _Family, repairs: list[str], first: bool, maximum: int | None) -> list[_Block]:
    """The blocks of a part, more than one where a separator is missing; none if it does not begin with a marker.

    Where there are separators, one may be missing, but a part with more than `maximum` markers quotes some of them.
    """
    pattern, roles = family
    markers = list(pattern.finditer(part))
    if not markers or (part[: markers[0].start()].strip() and not first):
        return []
    if part[: markers[0].start()].strip():
        repairs.append("chatter")
    if maximum and len(markers) > maximum:
        raise ReplyError("wrong_order")
    if not all(_STRICT.fullmatch(part, marker.start(), marker.end()) for marker in markers):
        repairs.append("marker")
    if len(markers) > 1:
        repairs.append("separator")
    return [(roles[_word(marker)], text.strip()) for marker, text in _parts(part, pattern)]


def _parts(text: str, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], str]]:
    """Each match of the pattern with the text up to the next one."""
    starts = list(pattern.finditer(text))
    ends = [start.start() for start in starts] + [len(text)]
    return [(start, text[start.end() : end]) for start, end in zip(starts, ends[1:], strict=True)]


# --- other forms


def _from_table(text: str) -> list[_Block]:
    """The pairs of a Markdown table with a column of questions and one of answers."""
    rows = [[cell.strip() for cell in row.split("|")] for row in _ROW.findall(text)]
    if len(rows) < 3 or not all(re.fullmatch(r":?-{2,}:?", cell) for cell in rows[1]):
        return []
    columns = [role_of(cell) for cell in rows[0]]
    if not {"q", "a"} <= set(columns):
        return []
    q, a = columns.index("q"), columns.index("a")
    return [block for row in rows[2:] if len(row) == len(columns) for block in (("q", row[q]), ("a", row[a]))]


def role_words() -> Iterator[str]:
    """All words that `role_of` knows."""
    return (word for _, roles in _families() for word in roles)


@cache
def role_of(word: str) -> str:
    """`q` or `a` for a word that models put before a question or an answer, in any language of markers.yaml; or ""."""
    name = re.sub(r"[\W\d_]+", " ", word.lower()).strip().removesuffix("s")
    return next((roles[name] for _, roles in _families() if name in roles), "")


def _from_tags(text: str) -> list[_Block]:
    """The blocks in tags: `<question>…</question><answer>…</answer>`; a question alone is none."""
    text = _OUTER_TAG.sub("", text)
    parts = _parts(text, _TAG)
    if len(parts) < 3 or text[: parts[0][0].start()].strip() or any(tag[1] and after.strip() for tag, after in parts):
        return []
    names = {"dt": "question", "dd": "answer"}
    opened = [(tag[3] or names.get(tag[2].lower(), tag[2]), after.strip()) for tag, after in parts if not tag[1]]
    found = [(role_of(name), text) for name, text in opened]
    return found if all(role for role, _ in found) else []


def _from_numbers(text: str) -> list[_Block]:
    """The pairs of a numbered list, each a line with a question and its answer below it."""
    return _from_lines([after for _, after in _parts(text, _NUMBERED)])


def _from_bold(text: str) -> list[_Block]:
    """The pairs of questions in bold or as headings, each with its answer below it."""
    return _from_lines([f"{start[1] or start[2]}\n{after}" for start, after in _parts(text, _BOLD_QUESTION)])


def _from_lines(items: list[str]) -> list[_Block]:
    """Question and answer of each item; none if one is not a question with an answer below it."""
    found = [block for item in items for block in _question_and_rest(item)]
    return found if len(found) == 2 * len(items) else []


def _question_and_rest(item: str) -> Iterator[_Block]:
    """A question with the answer below it, or after it in the same line."""
    question, _, rest = item.strip().partition("\n")
    if not rest.strip() and (found := re.fullmatch(r"(.+?[?\uff1f][*_]*)[ \t]+(.+)", question)):
        question, rest = found.groups()
    question = question.strip(" \t*_")
    answer = re.sub(r"\A\s*(?:[-\u2013\u2022>]|->|\u2192)\s*", "", rest).strip()
    if question.endswith(("?", "\uff1f")) and answer:
        yield "q", question
        yield "a", answer

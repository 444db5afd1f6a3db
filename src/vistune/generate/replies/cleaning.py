"""What models leave in a reply besides its text: thoughts, special tokens, wrappers, notes, markup."""

from __future__ import annotations

import html
import json
import re
from functools import cache

from vistune.resources import load_yaml

_TAGS = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad|inner_monologue)"
_OPEN = (
    rf"<{_TAGS}(?:\s[^<>]*)?>|\[THINK\]|<\|begin_of_thought\|>|<\|START_THINKING\|>|\u25c1think\u25b7|<unused94>(?:thought)?"
    r"|<\|channel\|>(?:analysis|commentary)(?:<\|message\|>)?|<\|thinking\|>"
)
_CLOSE = (
    rf"</{_TAGS}\s*>|\[/THINK\]|<\|end_of_thought\|>|<\|END_THINKING\|>|\u25c1/think\u25b7|<unused95>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>final(?: [^<]{0,40})?<\|message\|>|<\|/thinking\|>"
)
_THOUGHT = re.compile(rf"(?:{_OPEN})(?:(?!{_OPEN}).)*?(?:{_CLOSE})", re.DOTALL | re.IGNORECASE)
_UP_TO_CLOSE = re.compile(rf".*(?:{_CLOSE})", re.DOTALL | re.IGNORECASE)  # templates of R1 open it in the prompt
_OPEN_THOUGHT = re.compile(rf"\s*(?:{_OPEN})", re.IGNORECASE)
_START_TOKENS = re.compile(
    r"\A\s*(?:(?:<\|(?:im_start|start_header_id|start|assistant|startoftext|begin_of_text|message|begin_of_solution"
    r"|begin_of_box|START_RESPONSE|CHATBOT_TOKEN|START_OF_TURN_TOKEN)\|>|<s>|<bos>|<start_of_turn>|\[/INST\]"
    r"|<\|end_header_id\|>)\s*(?:(?:assistant|model)(?=\s*(?:\n|<)))?\s*)+|\A\s*(?:assistant|model)\s*\n",
    re.IGNORECASE,
)
_END_TOKENS = re.compile(
    r"\s*(?:<\|(?:eot_id|eom_id|im_end|end|endoftext|end_of_text|end_of_turn|end_of_solution|end_of_box|return|eos"
    r"|END_RESPONSE|END_OF_TURN_TOKEN|im_start|start_header_id|user|observation)\|>|</s>|<end_of_turn>|<eos>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|\[/?INST\]|<start_of_turn>).*\Z",
    re.DOTALL | re.IGNORECASE,
)
_WRAPPER = re.compile(
    r"\s*<(answer|output|response|final|final_answer|reply|result|text|description|conversation|dialogue|root|p|xml)>"
    r"(.*?)(?:</\1>\s*)?",
    re.DOTALL | re.IGNORECASE,
)
_HTML = re.compile(r"</?(?:b|i|em|strong|u|p|br|span|div|ul|ol|li|h[1-6])\s*/?>", re.IGNORECASE)
_BOLD = re.compile(r"(\*\*\*|\*\*|__)(?=\S)((?:(?!\1).)+)(?<=\S)\1", re.DOTALL)
_ITALIC = re.compile(
    r"(?<![*\w])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![*\w])|(?<![_\w])_(?=[^\s_])([^_\n]+?)(?<=\S)_(?![_\w])"
)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+(.*?)[ \t#]*$", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:[-*\u2022\u2013+]|\(?\d{1,2}[.)])[ \t]+")
_IMAGE = re.compile(r"\A\s*(?:<image>|<img>|\[image\]|<\|image\|>)\s*|\s*<image>\s*\Z", re.IGNORECASE)
_MOST_NOTES = 20
"""Notes that are looked for at the end of a text; a reply of thousands must not take long."""
_BLANKS = re.compile(r"\s{100,}")
_QUOTES = {"\u201c": "\u201d", '"': '"', "\u300c": "\u300d", "'": "'"}


def with_short_gaps(text: str) -> str:
    """The text without gaps of a hundred blanks and more, over which the patterns here would take long."""
    return _BLANKS.sub(lambda gap: "\n\n" if "\n" in gap[0] else " ", text)


def without_thoughts(text: str) -> tuple[str, bool]:
    """The text without its thoughts, and whether it ends within one. A tag within JSON is for the filters."""
    if is_json(text):
        return text, False
    text = _THOUGHT.sub("", text)
    if closed := _UP_TO_CLOSE.match(text):
        text = text[closed.end() :]
    return text, _OPEN_THOUGHT.match(text) is not None


def without_tokens(text: str) -> str:
    """The text without a chat template's tokens at its beginning, and without all from the first at its end on."""
    text = _START_TOKENS.sub("", text)
    end = _END_TOKENS.search(text)
    return text[: end.start()] if end and text[: end.start()].strip() else text


def without_wrapper(text: str) -> str:
    """The text without a tag, quotation marks or the like around all of it."""
    if (found := _WRAPPER.fullmatch(text)) and f"<{found[1]}" not in found[2]:
        text = found[2]
    if found := re.fullmatch(r"\s*\\boxed\{(?:\\text\{)?(.*?)\}{1,2}\s*", text, re.DOTALL):
        text = found[1]
    lines = text.strip().split("\n")
    if all(line.startswith(">") or not line.strip() for line in lines):
        text = "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)
    bare = text.strip()
    closing = _QUOTES.get(bare[:1])
    if closing and len(bare) > 1 and bare.endswith(closing) and not {bare[0], closing} & set(bare[1:-1]):
        return bare[1:-1]
    return text


def without_notes(text: str) -> str:
    """The text without notes, word counts and offers at its end."""
    shorter = text
    for _ in range(_MOST_NOTES):
        for pattern in patterns("end"):
            cut = pattern.sub("", shorter)
            if cut.strip() and cut != shorter:
                shorter = cut
                break
        else:
            break
    return shorter


def plain_text(text: str, lists: bool) -> str:
    """A turn without markup: entities decoded, without bold, headings and `<image>`; `lists`: also without lists."""
    text = _IMAGE.sub("", _HTML.sub("", html.unescape(text)))
    for pattern in (_BOLD, _ITALIC):
        text = pattern.sub(lambda found: next(part for part in found.groups()[::-1] if part), text)
    text = _CODE.sub(r"\1", text)
    if lists:
        text = "\n\n".join(filter(None, map(_paragraph, re.split(r"\n\s*\n", text))))
    return _HEADING.sub(r"\1", text).strip()


def _paragraph(text: str) -> str:
    """A paragraph without headings, and with the items of its lists as sentences."""
    lines = [line.strip() for line in text.split("\n")]
    if not any(map(_ITEM.match, lines)) and not any(map(_HEADING.match, lines)):
        return "" if len(lines) == 1 and re.fullmatch(r"[^.!?]{1,40}:", lines[0]) else text.strip()
    kept = []
    for line in lines:
        if _HEADING.match(line) or re.fullmatch(r"[^.!?]{1,40}:", line):
            continue
        item = _ITEM.sub("", line)
        ended = item == line or re.search(r"[.!?:;,]$", item)
        kept.append(item if ended or not item else f"{item}.")
    return " ".join(filter(None, kept))


def is_refusal(text: str) -> bool:
    """Whether a text is a short one that declines the request."""
    return len(text.split()) <= 80 and any(pattern.match(text) for pattern in patterns("refusal"))


@cache
def patterns(name: str) -> tuple[re.Pattern[str], ...]:
    """The patterns of that name in chatter.yaml."""
    loaded = load_yaml("vistune.generate.replies", "chatter.yaml")
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in loaded[name])


def is_json(text: str) -> bool:
    """Whether a text is an object or a list in strict JSON."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False

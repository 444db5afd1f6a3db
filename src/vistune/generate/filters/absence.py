"""Objects that a text denies although boxes or captions show them, or the data does not annotate them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vistune.generate.filters.sample import IS_THERE, Sample, Text, clauses, word_list
from vistune.generate.languages import ENGLISH
from vistune.scene.english import plain
from vistune.scene.mentions import Mention, concept, is_kind, one_of

_NO = re.compile(
    r"^(?:no|nope|none|there (?:is|are|isn't|aren't) (?:no|not|a|any)|i (?:cannot|can't|don't|do not) see)\b"
)
_DENIAL = re.compile(
    r"\b(?:there (?:is|are|'s) (?:no|not an?|not any) |there (?:isn't|aren't) (?:an?|any) |there's no "
    r"|(?:cannot|can't|do not|don't|can not) see (?:an?|any) |(?:i|you|we|one) (?:can )?see no "
    r"|(?:image|picture|photo|scene) (?:shows|contains|has|includes|features) no "
    r"|(?:image|picture|photo|scene) (?:does not|doesn't) (?:show|contain|include|have|feature) (?:an?|any) "
    r"|^no (?=[^,.;]*? (?:is|are|can be) ))"
)
_JOINS = frozenset(("or", "and", "nor", "a", "an", "any", "no"))
_VAGUE = frozenset(
    ("anything", "anyone", "anybody", "something", "someone", "somebody", "else", "other", "others", "more", "another")
)


def wrong_absence(sample: Sample) -> bool:
    """An answer denies an object that a box or a caption shows, or one that the data does not annotate.

    Only of the data's own categories are all objects annotated: what no box shows of these is not in the image. A
    teacher that sees the image knows of others, too.
    """
    if sample.kind.language != ENGLISH:
        return False
    return any(_shown(sample, denied) or _unknown(sample, denied) for denied in _denied(sample))


def _denied(sample: Sample) -> Iterator[tuple[str, ...]]:
    """The names, as words, of what the answers say is not in the image as a whole."""
    for question, answer in sample.exchanges:
        asked = IS_THERE.match(question.plain)
        if asked and _NO.match(answer.plain):
            yield from _names(sample, asked[1], unknown=True)
        for sentence in re.split(r"[.!?;\n]+\s*", answer.unquoted):
            if found := _DENIAL.search(sentence):
                yield from _names(sample, sentence[found.end() :], unknown=False)


def _names(sample: Sample, phrase: str, unknown: bool) -> Iterator[tuple[str, ...]]:
    """The objects that a phrase lists and says nothing else about, such as "cats or dogs in the image".

    `unknown`: also a name of one or two words that is none of a known category's.
    """
    words, found, at = Text(phrase).words, list[Mention](), 0
    starts = {mention.start: mention for mention in sample.finder.mentions(words)}
    while at < len(words) and (at in starts or words[at] in _JOINS):
        found += [starts[at]] if at in starts else []
        at = starts[at].end if at in starts else at + 1
    if unknown and not starts:
        at = next((n for n, word in enumerate(words) if word in word_list("whole")), len(words))
        name = tuple(words[:at])
        names = [name] if 0 < len(name) <= 2 and _VAGUE.isdisjoint(name) else []
    else:
        names = [tuple(words[mention.start : mention.end]) for mention in found]
    if word_list("whole").issuperset(words[at:]) and max(starts, default=0) < max(at, 1):
        yield from names


def _shown(sample: Sample, name: tuple[str, ...]) -> bool:
    """Whether a box or a caption shows the denied object: of a kind, such as a man, under this very name."""
    text = " ".join(name)
    mention = _mention(sample, name)
    if mention is None:
        return any(f" {text} " in caption.spaced for caption in sample.captions)
    named = [(box.category, plain(own.category)) for box, own in zip(sample.boxes, sample.record.boxes, strict=True)]
    for caption in sample.captions:
        for clause in clauses(caption, sample.finder):
            named += [(one.category, " ".join(clause.words[one.start : one.end])) for one in clause.mentions]
    same = [own for category, own in named if category == mention.category]
    return any(one_of(own) == one_of(text) for own in same) if is_kind(text) else bool(same)


def _unknown(sample: Sample, name: tuple[str, ...]) -> bool:
    """Whether the data does not annotate such objects, and no caption rules them out."""
    if sample.kind.sees or sample.vocabulary is None:
        return False
    mention = _mention(sample, name)
    annotated = mention is not None and mention.category in {concept(category) for category in sample.vocabulary}
    excluded = word_list("excluding")
    return not annotated and not any(not excluded.isdisjoint(caption.words) for caption in sample.captions)


def _mention(sample: Sample, name: tuple[str, ...]) -> Mention | None:
    return next(iter(sample.finder.mentions(name)), None)

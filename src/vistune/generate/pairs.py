"""Pairs of answers for preference training: an accepted answer, and the same with one thing made false.

Only what the boxes know is falsified: an object, a number, a side, a yes or no. A false answer is used if a filter for
untrue answers rejects it, and not the accepted one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vistune.formats.conversations import to_json
from vistune.generate.filters import FILTERS, Sample
from vistune.generate.languages import ENGLISH
from vistune.records import Turn
from vistune.scene.english import NUMBERS, number, plural, singular, tokens_of, with_article, words_of
from vistune.scene.evidence import absent
from vistune.scene.mentions import Mention
from vistune.scene.wording import fill, phrases
from vistune.seeded import fraction, pick

_TRUTH = ("ungrounded", "wrong_count", "wrong_place", "wrong_absence")
"""The filters for untrue answers; a pair's reason is the first that rejects its false answer."""
_OPPOSITE = {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper",
    "above": "below", "below": "above", "beneath": "above", "underneath": "above",
}  # fmt: skip
_SIDE = re.compile(rf"\b({'|'.join(_OPPOSITE)})\b", re.IGNORECASE)
_NUMBER = re.compile(rf"\b({'|'.join(NUMBERS[1:])})\b", re.IGNORECASE)
_YES_NO = re.compile(r"(yes|no)\b[,.!]?\s*", re.IGNORECASE)
_JOIN = re.compile(rf" and (?=(?:an?|{'|'.join(NUMBERS[1:])}) )")
_WAITING = 10_000
"""Pairs that wait to be balanced; of more, the oldest are left out."""
_COUNTING = frozenset(("many", "number", "count"))
_VERB = re.compile(r"\b(is|are) $")


@dataclass(frozen=True, slots=True)
class Preference:
    """A true and a false answer to the last of some turns about an image.

    `reason` is the code of the filter that rejects the false one, `kind` that of the sample.
    """

    image: str
    kind: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    reason: str

    def to_row(self, id_: str) -> str:
        """A line of JSON as TRL's DPOTrainer takes it: `images`, `prompt`, `chosen` and `rejected`."""
        sides = {
            name: [{"role": "assistant", "content": text}]
            for name, text in (("chosen", self.chosen), ("rejected", self.rejected))
        }
        prompt = [{"role": turn.role, "content": turn.text} for turn in self.prompt]
        about = {"id": id_, "kind": self.kind, "reason": self.reason, "images": [self.image]}
        return to_json({**about, "prompt": prompt, **sides})


class Balance:
    """Lets pairs through so that as many have a yes for the true answer as a no, in their order.

    Of others the model would learn to prefer yes, or no, to whatever question.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[str, Preference]]] = {
            word: deque(maxlen=_WAITING) for word in ("yes", "no")
        }

    def add(self, id_: str, pair: Preference) -> Iterator[tuple[str, Preference]]:
        """The pairs, with their ids, that this one lets through: none if it waits for one of the other kind."""
        said = _YES_NO.match(pair.chosen)
        if said is None:
            yield id_, pair
            return
        word = said[1].lower()
        if others := self._waiting["no" if word == "yes" else "yes"]:
            yield others.popleft()
            yield id_, pair
        else:
            self._waiting[word].append((id_, pair))


def preferences(sample: Sample, seed: int, image: str) -> Iterator[Preference]:
    """A pair for each answer of an accepted sample that has something to falsify, the same for the same seed.

    `image` is the path of its image as the data has it.
    """
    if sample.kind.language != ENGLISH:
        return
    for at, turn in enumerate(sample.turns):
        if turn.role != "assistant":
            continue
        exchange = replace(sample, turns=sample.turns[at - 1 : at + 1])
        if untrue(exchange):
            continue  # alone, it is read otherwise
        for text in _false_answers(exchange, (seed, sample.record.id, sample.kind.name, at)):
            if reason := untrue(_answered(exchange, text)):
                yield Preference(image, sample.kind.name, sample.turns[:at], turn.text, text, reason)
                break


def untrue(exchange: Sample) -> str:
    """The code of the first filter that rejects one question with its answer; "" for a true answer."""
    for code in _TRUTH:
        if FILTERS[code](exchange):
            return code
    return _wrong_yes_no(exchange) or _wrong_number(exchange)


def _wrong_yes_no(exchange: Sample) -> str:
    """The code for a yes or no that the filters, which read fewer questions, leave open."""
    question, answer = exchange.turns
    said = _YES_NO.match(answer.text)
    if not said:
        return ""
    yes = said[1].lower() == "yes"
    if _SIDE.search(question.text):
        asked = question if yes else replace(question, text=_mirrored(question.text))
        claim = replace(exchange, turns=(asked, replace(answer, text="Yes.")))
        return "wrong_place" if FILTERS["wrong_place"](claim) else ""
    if yes and (name := _asked_for(exchange)):
        claim = _answered(exchange, f"There is {with_article(name)}.")
        return "ungrounded" if FILTERS["ungrounded"](claim) else ""
    return ""


def _wrong_number(exchange: Sample) -> str:
    """The code for a number of objects that a question asks for and the boxes contradict, fewer of them included."""
    question, answer = exchange.texts
    name, numbers = _asked_for(exchange), _NUMBER.findall(answer.plain)
    if not (name and len(numbers) == 1 and _COUNTING.intersection(question.words)):
        return ""
    [mention] = exchange.finder.mentions(question.words)
    same = [box for box in exchange.boxes if box.category == mention.category]
    counted = bool(same) and not any(box.crowd for box in same)
    return "wrong_count" if counted and NUMBERS.index(numbers[0]) != len(same) else ""


def _answered(exchange: Sample, text: str) -> Sample:
    question, answer = exchange.turns
    return replace(exchange, turns=(question, replace(answer, text=text)))


def _false_answers(exchange: Sample, key: tuple[object, ...]) -> Iterator[str]:
    """The answer with one thing changed, in an order by hash; whether it is false is for the filters to say."""
    if said := _YES_NO.match(exchange.turns[1].text):
        yield from _turned(exchange, said)
        return
    ways = [_other_numbers(exchange), _other_sides(exchange), _other_objects(exchange, key)]
    for way in sorted(range(len(ways)), key=lambda way: fraction(*key, way)):
        yield from sorted(ways[way], key=lambda text: fraction(*key, text))


def _mirrored(text: str) -> str:
    """The text with every side and place turned into its opposite."""
    return _SIDE.sub(lambda found: _like(found[0], _OPPOSITE[found[0].lower()]), text)


def _turned(exchange: Sample, said: re.Match[str]) -> Iterator[str]:
    """The answer yes as no, or no as yes, with what follows."""
    yes, rest = said[1].lower() == "yes", exchange.turns[1].text[said.end() :]
    other = "No" if yes else "Yes"
    if not rest:
        yield f"{other}."
    elif _SIDE.search(rest):
        yield f"{other}, {_mirrored(rest)}"
    elif name := _asked_for(exchange):
        words = {"thing": name, "counted": with_article(name)}
        form = 2 if "see" in words_of(rest.lower()) else 1  # as there is, or as one can see
        yield fill(phrases()["existence"]["denied" if yes else "affirmed"][form], **words)


def _asked_for(exchange: Sample) -> str:
    """The name of the only object that the question names, as it is written; empty if it names several or none."""
    words = exchange.texts[0].words
    found = exchange.finder.mentions(words)
    if len(found) != 1:
        return ""
    written = re.search(_surface(words, found[0]), exchange.turns[0].text, re.IGNORECASE)
    return singular(written[0]) if written else ""


def _other_sides(exchange: Sample) -> Iterator[str]:
    answer = exchange.turns[1].text
    for found in _SIDE.finditer(answer):
        yield answer[: found.start()] + _mirrored(found[0]) + answer[found.end() :]


def _other_numbers(exchange: Sample) -> Iterator[str]:
    """The answer with a number that is one less, one more or two more, and with its noun and verb in that number."""
    answer = exchange.turns[1].text
    for found in _NUMBER.finditer(answer):
        count = NUMBERS.index(found[0].lower())
        before, rest = answer[: found.start()], answer[found.end() :]
        words = words_of(rest.lower())
        noun = next((one for one in exchange.finder.mentions(words[:4]) if one.start < 3), None)
        for new in (count - 1, count + 1, count + 2):
            if not 1 <= new < len(NUMBERS):
                continue
            start, end = before, rest
            if noun and 1 in (count, new):
                form = singular if new == 1 else plural
                name = re.search(_surface(words, noun), rest, re.IGNORECASE)
                end = rest.replace(name[0], form(name[0]), 1) if name else rest
                start = _VERB.sub("is " if new == 1 else "are ", before)
            yield start + _like(found[0], number(new)) + end


def _other_objects(exchange: Sample, key: tuple[object, ...]) -> Iterator[str]:
    """The answer with an absent object in the place of one that the question does not name, or in a list of them."""
    others = absent(exchange.vocabulary or (), exchange.record.boxes, exchange.record.captions)
    if not others:
        return
    other, answer = pick(others, *key, "object"), exchange.turns[1].text
    named = {one.category for one in exchange.finder.mentions(exchange.texts[0].words)}
    words = tokens_of(answer.lower())
    mentions = exchange.finder.mentions(words)
    for category in dict.fromkeys(one.category for one in mentions):
        if category not in named:
            text = answer
            for mention in (one for one in mentions if one.category == category):
                text = _replaced(text, words, mention, other)
            yield text
    if found := _JOIN.search(answer):
        yield f"{answer[: found.start()]}, {with_article(other)} and {answer[found.end() :]}"


def _replaced(text: str, words: list[str], mention: Mention, other: str) -> str:
    """The text with `other` for every occurrence of what is mentioned, in the same number and with its article."""

    def form(found: re.Match[str]) -> str:
        new = with_article(other) if found[1] else plural(other) if mention.plural else singular(other)
        return _like(found[0], new)

    return re.sub(rf"\b(an? )?{_surface(words, mention)}\b", form, text, flags=re.IGNORECASE)


def _surface(words: list[str], mention: Mention) -> str:
    """The pattern of a mention in the text that the words are of."""
    return r"[\W_]+".join(map(re.escape, words[mention.start : mention.end]))


def _like(old: str, new: str) -> str:
    """The new text with a capital if the old one begins with one."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new

"""The figures of the report: lengths, variety, mentioned objects and cost, without holding the samples.

distinct-n is the share of different n-grams among all (Li et al. 2016). It falls with the amount of text, so it is
taken over a fixed amount: the first `WORDS` words of `SAMPLES` conversations of a kind, drawn by the hash of their ids.
Runs of different sizes can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from vistune.records import Turn
from vistune.scene.english import words_of
from vistune.scene.mentions import MentionFinder
from vistune.seeded import HashSample

SAMPLES = 400
WORDS = 10_000
_TOP = 10
_PIPELINE = "en_core_web_sm"
_TOKENS = ("input", "output", "cached")


def quantile(counts: Counter[int], share: float) -> int:
    """The least of the counted numbers that `share` of them do not exceed; 0 if there are none."""
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * counts.total():
            return value
    return 0


def distribution(counts: Counter[int]) -> dict[str, float]:
    """`mean`, `min`, `p10`, `p50`, `p90` and `max` of the counted numbers; all 0 if there are none."""
    total = sum(value * count for value, count in counts.items())
    quantiles = {f"p{round(100 * share)}": quantile(counts, share) for share in (0.1, 0.5, 0.9)}
    mean = round(total / max(counts.total(), 1), 3)
    return {"mean": mean, "min": min(counts, default=0), **quantiles, "max": max(counts, default=0)}


class Diversity:
    """The variety of one kind's accepted samples."""

    def __init__(self) -> None:
        self._sampled: HashSample[tuple[Turn, ...]] = HashSample(SAMPLES, "distinct")
        self._first_words: dict[str, Counter[str]] = {"questions": Counter(), "answers": Counter()}

    def add(self, name: str, turns: Sequence[Turn]) -> None:
        self._sampled.add(name, tuple(turns))
        for turn in turns:
            first = next(iter(words_of(turn.text[:200].lower())), "")[:30]
            self._first_words["questions" if turn.role == "user" else "answers"][first] += 1

    def to_dict(self) -> dict[str, Any]:
        """For questions and answers `distinct_1` to `_3` and the shares of `first_words`.

        With spaCy's en_core_web_sm installed also `actions`, the verb-noun pairs of the sampled questions, and how many
        different ones there are.
        """
        sides = {"questions": self._texts("user"), "answers": self._texts("assistant")}
        figures = {
            name: {**distinct(texts), "first_words": _top_shares(self._first_words[name])}
            for name, texts in sides.items()
        }
        return figures | _actions(sides["questions"])

    def _texts(self, role: str) -> tuple[str, ...]:
        return tuple(turn.text for turns in self._sampled.items() for turn in turns if turn.role == role)


class Coverage:
    """Of the categories boxed in a sample's image, each once, those that its turns mention by any name."""

    def __init__(self) -> None:
        self.named = self.boxed = 0

    def add(self, categories: Iterable[str], texts: Iterable[str]) -> None:
        boxed = set(categories)
        self.boxed += len(boxed)
        self.named += len(boxed.intersection(MentionFinder(boxed).find("\n".join(texts))))

    def share(self) -> float | None:
        """The share that is mentioned; None where nothing is boxed."""
        return self.named / self.boxed if self.boxed else None


class Spending:
    """Tokens, attempts and US dollars of all replies of a kind, rejected ones included.

    What is unknown of one reply (the server does not count tokens, no price is given) makes the sum None, for a
    sum of the others would be too low.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.tokens: dict[str, int] | None = dict.fromkeys(_TOKENS, 0)
        self.usd: float | None = 0.0

    def add(self, about: Mapping[str, Any]) -> None:
        if not about["attempts"]:
            return
        self.attempts += about["attempts"]
        usage = about["usage"]
        if self.tokens is not None:
            known = {name: self.tokens[name] + usage.get(name, 0) for name in _TOKENS}
            self.tokens = known if {"input", "output"} <= usage.keys() else None
        self.usd = None if self.usd is None or about["cost"] is None else self.usd + about["cost"]

    def to_dict(self, accepted: int) -> dict[str, Any]:
        """`attempts`, `tokens` and `usd` in all, and `per_accepted` sample."""
        usd = None if self.usd is None else round(self.usd, 6)
        per: dict[str, float | None] = dict.fromkeys((*_TOKENS, "usd"))
        if accepted and self.tokens is not None:
            per |= {name: round(count / accepted, 1) for name, count in self.tokens.items()}
        if accepted and self.usd is not None:
            per["usd"] = round(self.usd / accepted, 8)
        return {"attempts": self.attempts, "tokens": self.tokens, "usd": usd, "per_accepted": per}


def by_frequency(counts: Counter[str]) -> dict[str, int]:
    """The counts, the largest first, ties in alphabetical order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def distinct(texts: Iterable[str]) -> dict[str, float | None]:
    """distinct-1, -2 and -3 of the first `WORDS` words; None where there is no n-gram. None spans two texts."""
    grams: tuple[set[int], ...] = (set(), set(), set())
    totals, left = [0, 0, 0], WORDS
    for text in texts:
        words = words_of(text.lower())[:left]
        left -= len(words)
        for n, seen in enumerate(grams):
            found = list(zip(*(words[start:] for start in range(n + 1)), strict=False))
            seen.update(map(hash, found))  # a set of numbers takes a third of a set of tuples
            totals[n] += len(found)
    pairs = zip(grams, totals, strict=True)
    return {f"distinct_{n}": round(len(seen) / all_, 4) if all_ else None for n, (seen, all_) in enumerate(pairs, 1)}


def _top_shares(counts: Counter[str]) -> dict[str, float]:
    top = list(by_frequency(counts).items())[:_TOP]
    return {word: round(count / counts.total(), 4) for word, count in top}


@cache  # the tables and the page show it, too, and parsing takes seconds
def _actions(questions: tuple[str, ...]) -> dict[str, Any]:
    """`actions` and `different_actions` (Self-Instruct, figure 2); nothing where spaCy's pipeline is not installed."""
    if not find_spec("spacy") or not find_spec(_PIPELINE):  # importing spaCy to see that takes seconds
        return {}
    import spacy

    documents = spacy.load(_PIPELINE, exclude=["ner"]).pipe(questions)
    counts = Counter(pair for document in documents if (pair := next(verb_noun_pairs(document), None)))
    return {"actions": _top_shares(counts), "different_actions": len(counts)}


def verb_noun_pairs(document: Any) -> Iterator[str]:
    """Of each sentence of a spaCy document its root verb and the verb's object, or else its subject: `hold cup`."""
    for sentence in document.sents:
        verb = sentence.root
        for dependency in ("dobj", "attr", "nsubj", "nsubjpass"):
            nouns = [token for token in verb.children if token.dep_ == dependency and token.pos_ in ("NOUN", "PROPN")]
            if nouns and verb.pos_ in ("VERB", "AUX"):
                yield f"{verb.lemma_} {nouns[0].lemma_}".lower()
                break

"""The figures of the report: lengths, variety, mentioned objects and cost, in bounded memory.

distinct-n is the share of different n-grams among all (Li et al. 2016). It falls with the amount of text, so it is
taken over a fixed amount: the first `WORDS` words of `SAMPLES` conversations of a kind, drawn by the hash of their ids.
Runs of different sizes can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class Histogram:
    """Whole numbers from 0 up: the exact mean, minimum and maximum, and quantiles.

    Numbers above `LIMIT` count as `LIMIT` in the quantiles, which bounds the number of bins.
    """

    LIMIT = 2_000

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.count = self.total = self.maximum = 0

    def add(self, value: int) -> None:
        """Count one number."""
        self.bins[min(value, self.LIMIT)] += 1
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)

    def quantile(self, share: float) -> int:
        """The least number that `share` of them do not exceed; 0 if there are none."""
        seen = 0
        for value in sorted(self.bins):
            seen += self.bins[value]
            if seen >= share * self.count:
                return value
        return 0

    def to_dict(self) -> dict[str, float]:
        """`mean`, `min`, `p10`, `p50`, `p90`, `max`; all 0 if there are none."""
        mean = round(self.total / self.count, 3) if self.count else 0.0
        quantiles = {f"p{round(100 * share)}": self.quantile(share) for share in (0.1, 0.5, 0.9)}
        return {"mean": mean, "min": min(self.bins, default=0), **quantiles, "max": self.maximum}


class Tally:
    """How often each word comes; of words that first come after `LIMIT` others, only the total."""

    LIMIT = 5_000

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0

    def add(self, word: str) -> None:
        """Count one."""
        self.total += 1
        if word in self.counts or len(self.counts) < self.LIMIT:
            self.counts[word] += 1

    def shares(self) -> dict[str, float]:
        """The most frequent with their shares of the total, ties in alphabetical order."""
        top = by_frequency(self.counts).items()
        return {word: round(count / self.total, 4) for word, count in list(top)[:_TOP]}


class Diversity:
    """The variety of one kind's accepted samples, in a few megabytes at most."""

    def __init__(self) -> None:
        self._sampled: HashSample[tuple[Turn, ...]] = HashSample(SAMPLES, "distinct")
        self._first_words = {"questions": Tally(), "answers": Tally()}
        self._figures: dict[str, Any] | None = None

    def add(self, name: str, turns: Sequence[Turn]) -> None:
        """Count one sample."""
        self._figures = None
        self._sampled.add(name, lambda: tuple(turns))
        for turn in turns:
            first = "".join(words_of(turn.text.lower())[:1])[:30]
            self._first_words["questions" if turn.role == "user" else "answers"].add(first)

    def to_dict(self) -> dict[str, Any]:
        """For questions and answers `distinct_1` to `_3` and the shares of `first_words`.

        With spaCy's en_core_web_sm installed also `actions`, the verb-noun pairs of the sampled questions, and how many
        different ones there are.
        """
        if self._figures is None:
            sides = {"questions": self._texts("user"), "answers": self._texts("assistant")}
            self._figures = {
                name: {**distinct(texts), "first_words": self._first_words[name].shares()}
                for name, texts in sides.items()
            } | _actions(sides["questions"])
        return self._figures

    def _texts(self, role: str) -> list[str]:
        return [turn.text for turns in self._sampled.items() for turn in turns if turn.role == role]


class Coverage:
    """Of the categories boxed in a sample's image, each once, those that its turns mention by any name."""

    def __init__(self) -> None:
        self.named = self.boxed = 0

    def add(self, categories: Iterable[str], texts: Iterable[str]) -> None:
        """Count one sample."""
        boxed = set(categories)
        self.boxed += len(boxed)
        self.named += len(boxed.intersection(MentionFinder(boxed).find("\n".join(texts))))

    def share(self) -> float | None:
        """The share that is mentioned; None where nothing is boxed."""
        return self.named / self.boxed if self.boxed else None


class Cost:
    """Tokens, attempts and US dollars of all replies of a kind, rejected ones included.

    What is unknown of one reply (the server does not count tokens, no price is given) makes the sum None, for a
    sum of the others would be too low.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.tokens: dict[str, int] | None = dict.fromkeys(_TOKENS, 0)
        self.usd: float | None = 0.0

    def add(self, about: Mapping[str, Any]) -> None:
        """Count one reply by its provenance; a sample without a request costs nothing."""
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


def _actions(questions: Iterable[str]) -> dict[str, Any]:
    """`actions` and `different_actions` (Self-Instruct, figure 2); nothing where spaCy's pipeline is not installed."""
    if not find_spec("spacy") or not find_spec(_PIPELINE):  # importing spaCy to see that takes seconds
        return {}
    import spacy

    tally = Tally()
    for document in spacy.load(_PIPELINE, exclude=["ner"]).pipe(questions):
        if pair := next(verb_noun_pairs(document), None):
            tally.add(pair)
    return {"actions": tally.shares(), "different_actions": len(tally.counts)}


def verb_noun_pairs(document: Any) -> Iterator[str]:
    """Of each sentence of a spaCy document its root verb and the verb's object, or else its subject: `hold cup`."""
    for sentence in document.sents:
        verb = sentence.root
        for dependency in ("dobj", "attr", "nsubj", "nsubjpass"):
            nouns = [token for token in verb.children if token.dep_ == dependency and token.pos_ in ("NOUN", "PROPN")]
            if nouns and verb.pos_ in ("VERB", "AUX"):
                yield f"{verb.lemma_} {nouns[0].lemma_}".lower()
                break

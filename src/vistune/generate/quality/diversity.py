"""How varied questions and answers are.

distinct-n is the share of different n-grams among all (Li et al. 2016). It falls with the amount of text, so it is
taken over a fixed amount: the first `WORDS` words of a sample of `SAMPLES` conversations a kind, drawn by the hash of
their ids. Two runs of different size can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vistune.generate.quality.actions import Action, Actions
from vistune.generate.quality.counters import Tally
from vistune.records import Turn
from vistune.seeded import HashSample

SAMPLES = 400
WORDS = 10_000
_SHOWN = 10
_WORD = re.compile(r"\w+(?:'\w+)?")


class Diversity:
    """The variety of one kind's accepted samples, in a few megabytes at most.

    First words and verb-noun pairs are counted over all samples; of those that first come after 5,000 others only
    the total is kept.
    """

    def __init__(self) -> None:
        self._texts: HashSample[tuple[Turn, ...]] = HashSample(SAMPLES, "distinct")
        self._actions = Actions()
        self._first = {"questions": Tally(), "answers": Tally()}
        self._pairs = Tally()
        self._figures: dict[str, Any] | None = None

    def add(self, name: str, turns: Sequence[Turn]) -> None:
        """Count one sample."""
        self._figures = None
        self._texts.add(name, lambda: tuple(turns))
        for turn in turns:
            asked = turn.role == "user"
            self._first["questions" if asked else "answers"].add(_first_word(turn.text))
            if asked and (pair := self._actions.find(turn.text)):
                self._pairs.add(pair)

    def to_dict(self) -> dict[str, Any]:
        """For questions and answers `distinct_1` to `_3`, `first_words` (share of the most frequent); `actions`."""
        if self._figures is None:
            sides = {side: self._side(side, first) for side, first in self._first.items()}
            self._figures = {**sides, "actions": self._top_actions(), "different_actions": len(self._pairs.counts)}
        return self._figures

    def _side(self, side: str, first: Tally) -> dict[str, Any]:
        words = {word: round(n / first.total, 4) for word, n in first.top(_SHOWN)}
        return {**distinct(self._sampled(side)), "first_words": words}

    def _top_actions(self) -> dict[str, float]:
        top: list[tuple[Action, int]] = self._pairs.top(_SHOWN)
        return {" ".join(pair): round(n / self._pairs.total, 4) for pair, n in top}

    def _sampled(self, side: str) -> Iterable[str]:
        role = "user" if side == "questions" else "assistant"
        return (turn.text for turns in self._texts.items() for turn in turns if turn.role == role)


def distinct(texts: Iterable[str], most: int = WORDS) -> dict[str, float | None]:
    """distinct-1, -2 and -3 of the first `most` words; None where there is no n-gram. None spans two texts."""
    grams: tuple[set[int], ...] = (set(), set(), set())
    totals, left = [0, 0, 0], most
    for text in texts:
        words = _WORD.findall(text.lower())[:left]
        left -= len(words)
        for n, seen in enumerate(grams):
            found = list(zip(*(words[start:] for start in range(n + 1)), strict=False))
            seen.update(map(hash, found))  # a set of numbers takes a third of a set of tuples
            totals[n] += len(found)
        if left <= 0:
            break
    pairs = zip(grams, totals, strict=True)
    return {f"distinct_{n}": round(len(seen) / all_, 4) if all_ else None for n, (seen, all_) in enumerate(pairs, 1)}


def _first_word(text: str) -> str:
    found = _WORD.search(text)
    return found[0].lower()[:30] if found else ""

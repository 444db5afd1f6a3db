from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from vistune.generate.dedup import Deduplicator

WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in ("a", "en", "is", "or") for c in ("", "ta", "ro", "mi", "lu")]


def marked(texts: Sequence[str], block: int = 4096) -> list[str]:
    deduplicator = Deduplicator()
    return [mark for at in range(0, len(texts), block) for mark in deduplicator.mark(texts[at : at + block])]


def written(rng: random.Random, words: int = 60) -> list[str]:
    return rng.choices(WORDS, k=words)


def similarity(one: Sequence[str], other: Sequence[str]) -> float:
    first, second = ({*pairwise(words)} for words in (one, other))
    return len(first & second) / len(first | second)


def test_an_exact_copy_differs_in_case_and_punctuation_only() -> None:
    text = " ".join(written(random.Random(0)))
    texts = [text, f"{text.upper()}!", text.replace(" ", ", "), " ".join(reversed(text.split())), ""]
    assert marked(texts) == ["", "duplicate", "duplicate", "", ""]


def test_near_duplicates_are_those_with_the_similarity() -> None:
    rng = random.Random(1)
    first = [written(rng) for _ in range(400)]
    copies = []
    for words in first:
        copy = list(words)
        for place in rng.sample(range(60), rng.randint(1, 12)):
            copy[place] = rng.choice(WORDS)
        copies.append(copy)
    near = np.array([mark != "" for mark in marked([" ".join(words) for words in first + copies])])
    alike = np.array([similarity(*pair) for pair in zip(first, copies, strict=True)])
    assert not near[:400].any()
    assert not near[400:][alike < 0.7].any()
    assert near[400:][alike >= 0.7].mean() > 0.98
    assert near[400:][alike >= 0.75].all()


def test_only_the_first_of_many_copies_stays() -> None:
    rng = random.Random(2)
    words = written(rng)
    texts = []
    for number in range(600):
        copy = list(words)
        copy[rng.randrange(60)] = rng.choice(WORDS)
        texts.append(" ".join(copy if number % 3 else written(rng)))
    assert [number for number, mark in enumerate(marked(texts)) if mark] == [n for n in range(2, 600) if n % 3]


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_size_of_the_blocks_changes_nothing(block: int) -> None:
    rng = random.Random(3)
    kept = [written(rng, 30) for _ in range(40)]
    texts = [" ".join(rng.choice(kept)[: rng.randint(25, 30)]) for _ in range(200)]
    texts[::17] = ["Yes."] * len(texts[::17])
    whole = marked(texts)
    assert sum(mark != "" for mark in whole) > 100
    assert marked(texts, block) == whole


def test_short_texts_are_never_marked() -> None:
    assert marked(["Yes, there is a dog."] * 5 + [""] * 3) == [""] * 8
    assert marked(["one two " * 9 + "three"] * 2) == ["", ""]
    assert marked(["one two " * 10] * 2) == ["", "duplicate"]


def test_no_texts() -> None:
    assert marked([]) == Deduplicator().mark([]) == []

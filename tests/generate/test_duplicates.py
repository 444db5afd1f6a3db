from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vistune.generate import duplicates
from vistune.generate.duplicates import Duplicates, Found
from vistune.generate.filters.repeats import AskedBefore
from vistune.records import Turn

WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in ("a", "en", "is", "or") for c in ("", "ta", "ro", "mi", "lu")]


def found(texts: Sequence[str], folder: Path, **settings: float) -> Found:
    with Duplicates(folder, **settings) as some:  # type: ignore[arg-type]
        for text in texts:
            some.add(text)
        return some.found()


def written(rng: random.Random, words: int = 60) -> list[str]:
    return rng.choices(WORDS, k=words)


def similarity(one: Sequence[str], other: Sequence[str]) -> float:
    first, second = ({*pairwise(words)} for words in (one, other))
    return len(first & second) / len(first | second)


def test_an_exact_copy_differs_in_case_and_punctuation_only(tmp_path: Path) -> None:
    text = " ".join(written(random.Random(0)))
    texts = [text, f"{text.upper()}!", text.replace(" ", ", "), " ".join(reversed(text.split())), ""]
    one = found(texts, tmp_path)
    assert one.exact.tolist() == [False, True, True, False, False]
    assert one.near.tolist() == [False, True, True, False, False]


def test_what_is_near_is_what_the_similarity_says(tmp_path: Path) -> None:
    rng = random.Random(1)
    first = [written(rng) for _ in range(400)]
    copies = []
    for words in first:
        copy = list(words)
        for place in rng.sample(range(60), rng.randint(1, 12)):
            copy[place] = rng.choice(WORDS)
        copies.append(copy)
    near = found([" ".join(words) for words in first + copies], tmp_path).near
    alike = np.array([similarity(*pair) for pair in zip(first, copies, strict=True)])
    assert not near[:400].any()
    assert not near[400:][alike < 0.7].any()
    assert near[400:][alike >= 0.7].mean() > 0.98
    assert near[400:][alike >= 0.75].all()


def test_copies_of_a_popular_text_are_all_found(tmp_path: Path) -> None:
    rng = random.Random(2)
    text = " ".join(written(rng))
    texts = [text if n % 3 else " ".join(written(rng)) for n in range(600)]
    one = found(texts, tmp_path)
    assert one.exact.tolist() == [n % 3 > 0 and n > 1 for n in range(600)]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_how_they_are_batched_changes_nothing(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    kept = [written(rng, 30) for _ in range(40)]
    texts = [" ".join(rng.choice(kept)[: rng.randint(25, 30)]) for _ in range(200)]
    whole = found(texts, tmp_path)
    monkeypatch.setattr(duplicates, "_BATCH", batch)
    monkeypatch.setattr(duplicates, "_CHUNK", 16)
    parts = found(texts, tmp_path)
    assert whole.near.sum() > 100
    assert (parts.near == whole.near).all()
    assert (parts.exact == whole.exact).all()


def test_short_texts_are_not_judged(tmp_path: Path) -> None:
    assert not found(["Yes, there is a dog."] * 5 + [""] * 3, tmp_path).near.any()
    assert found(["Yes, there is a dog."] * 2, tmp_path, least_words=5).exact.tolist() == [False, True]


def test_no_texts_and_no_files_left(tmp_path: Path) -> None:
    assert found([], tmp_path).near.tolist() == []
    assert found(["a b"], tmp_path).near.tolist() == [False]
    assert list(tmp_path.iterdir()) == []


def test_a_question_asked_before_about_the_same_image() -> None:
    before = AskedBefore()
    assert not before.repeats("1", [Turn("user", "How many dogs are there?"), Turn("assistant", "Two.")])
    assert not before.repeats("1", [Turn("user", "What color is the dog?"), Turn("assistant", "Brown.")])
    assert before.repeats("1", [Turn("user", "How many dogs are in the image?"), Turn("assistant", "Two dogs.")])
    assert not before.repeats("2", [Turn("user", "How many dogs are there?")])

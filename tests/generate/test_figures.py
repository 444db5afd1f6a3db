from __future__ import annotations

import random
import statistics
from collections import Counter

import pytest

from vistune.generate.figures import Coverage, Diversity, distinct, distribution, verb_noun_pairs
from vistune.records import Turn
from vistune.seeded import HashSample


def test_the_distribution_of_counted_numbers() -> None:
    rng = random.Random(0)
    values = [rng.randrange(3_000) for _ in range(2_001)]
    assert distribution(Counter(values)) == {
        "mean": round(statistics.mean(values), 3), "min": min(values), "p10": sorted(values)[200],
        "p50": statistics.median(values), "p90": sorted(values)[1800], "max": max(values),
    }  # fmt: skip


def test_no_numbers_have_a_distribution_of_zeros() -> None:
    assert set(distribution(Counter()).values()) == {0}


def test_a_sample_by_hash_does_not_depend_on_the_order() -> None:
    names = [str(number) for number in range(1_000)]
    drawn = []
    for order in (names, names[::-1]):
        sample: HashSample[str] = HashSample(50, "key")
        for name in order:
            sample.add(name, name)
        drawn.append(sample.items())
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 50
    assert 300 < statistics.mean(map(int, drawn[0])) < 700


def test_distinct_n_by_hand() -> None:
    assert distinct(["The dog and the cat.", "the dog"]) == {
        "distinct_1": round(4 / 7, 4), "distinct_2": round(4 / 5, 4), "distinct_3": 1.0
    }  # fmt: skip
    assert distinct([]) == {"distinct_1": None, "distinct_2": None, "distinct_3": None}


def test_distinct_n_does_not_depend_on_the_amount_of_text() -> None:
    words = [f"w{number % 700} w{number % 90} w{number % 11}" for number in range(40_000)]
    assert distinct(words[:20_000]) == distinct(words)


def test_first_words_are_shares_of_all() -> None:
    diversity = Diversity()
    questions = ["What is the man holding?", "What are the men holding?", "How many dogs?", "\u2026"]
    for number, question in enumerate(questions):
        diversity.add(str(number), (Turn("user", question), Turn("assistant", "A \u201ccup\u201d.")))
    figures = diversity.to_dict()
    assert figures["questions"]["first_words"] == {"what": 0.5, "": 0.25, "how": 0.25}
    assert figures["answers"]["first_words"] == {"a": 1.0}


@pytest.mark.parametrize(
    ("words", "lemmas", "heads", "dependencies", "parts", "pair"),
    [
        ("Describe the image", "describe the image", (0, 2, 0), "ROOT det dobj", "VERB DET NOUN", "describe image"),
        ("Where is the Dog", "where be the dog", (1, 1, 3, 1), "advmod ROOT det nsubj", "SCONJ AUX DET NOUN", "be dog"),
        ("What is it", "what be it", (1, 1, 1), "attr ROOT nsubj", "PRON AUX PRON", None),
    ],
)
def test_the_verb_and_noun_of_a_question(
    words: str, lemmas: str, heads: tuple[int, ...], dependencies: str, parts: str, pair: str | None
) -> None:
    spacy = pytest.importorskip("spacy")
    document = spacy.tokens.Doc(
        spacy.blank("en").vocab, words.split(), lemmas=lemmas.split(), heads=list(heads), deps=dependencies.split(),
        pos=parts.split(),
    )  # fmt: skip
    assert list(verb_noun_pairs(document)) == ([pair] if pair else [])


def test_coverage_counts_mentions_by_any_name() -> None:
    coverage = Coverage()
    assert coverage.share() is None
    coverage.add(
        ["hot dog", "cat", "wine glass", "bus", "Person"], ["Two hot-dogs, a CATALOGUE,", "a wine  glass; buses."]
    )
    assert (coverage.named, coverage.boxed) == (3, 5)
    coverage.add(["sofa", "Person"], ["A man on the couch."])
    assert (coverage.named, coverage.boxed) == (5, 7)

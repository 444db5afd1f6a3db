"""The filter against the paper's rule written down plainly, and with a real spaCy pipeline."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from vistune.errors import MissingPackageError, VistuneError
from vistune.generate.captions import MAX_CAPTIONS, MIN_CAPTIONS, SpacyPhrases, balanced
from vistune.records import Conversation, Turn

WORDS = [f"thing{n}" for n in range(60)]


def pairs(texts: Iterable[str]) -> list[Conversation]:
    return [Conversation(str(n), (Turn("user", "What?"), Turn("assistant", text))) for n, text in enumerate(texts)]


def by_words(texts: Iterable[str]) -> Iterator[set[str]]:
    """Every word is a phrase."""
    for text in texts:
        yield set(text.split())


def skewed(count: int) -> list[str]:
    """Captions whose words are the rarer the higher their number."""
    rng = random.Random(0)
    weights = [1 / (n + 1) ** 1.5 for n in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=3)) for _ in range(count)]


def test_it_keeps_what_the_papers_rule_keeps() -> None:
    texts = skewed(3_000)
    counts = Counter(word for text in texts for word in set(text.split()))
    kept = {int(pair.id) for pair in balanced(pairs(texts), by_words, seed=0)}
    rare = {
        n for n, text in enumerate(texts) if any(MIN_CAPTIONS <= counts[word] <= MAX_CAPTIONS for word in text.split())
    }
    hopeless = {n for n, text in enumerate(texts) if all(counts[word] < MIN_CAPTIONS for word in text.split())}
    frequent = [word for word in counts if counts[word] > MAX_CAPTIONS]
    assert rare <= kept
    assert not hopeless & kept
    assert len(frequent) > 5
    for word in frequent:
        assert len([n for n in kept if word in texts[n].split()]) >= MAX_CAPTIONS
    assert len(kept - rare) <= MAX_CAPTIONS * len(frequent)
    only = [n for n, text in enumerate(texts) if set(text.split()) == {WORDS[0]}]  # its hundred and no more
    assert 0 < len(kept & {*only}) <= MAX_CAPTIONS


def test_one_phrase_gives_a_random_hundred() -> None:
    texts = ["dog"] * 101 + ["cat"] * 100 + ["bird"] * 3 + ["fish"] * 2 + [""]
    kept = [pair.turns[1].text for pair in balanced(pairs(texts), by_words, seed=0)]
    assert Counter(kept) == {"dog": 100, "cat": 100, "bird": 3}
    texts = ["dog"] * 5_000
    first, second = ({pair.id for pair in balanced(pairs(texts), by_words, seed)} for seed in (0, 1))
    assert len(first) == len(second) == MAX_CAPTIONS
    assert first != second
    assert max(map(int, first)) > 4_000  # from all of them, not the first ones


def test_it_gives_the_same_pairs_again_in_order() -> None:
    first, second = ([pair.id for pair in balanced(pairs(skewed(500)), by_words, seed=3)] for _ in range(2))
    assert first == second == sorted(first, key=int)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real spaCy pipeline with a parser, learned from a few sentences: no model can be downloaded here."""
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    ruler = nlp.add_pipe("attribute_ruler")
    animals, places = ("dog", "cat", "horse", "bird"), ("rug", "road", "table", "field")
    examples = []
    for animal in animals:
        for place in places:
            document = nlp.make_doc(f"a {animal} on the {place}")
            note = {
                "heads": [1, 1, 1, 4, 2], "deps": ["det", "ROOT", "prep", "det", "pobj"],
                "tags": ["DT", "NN", "IN", "DT", "NN"],
            }  # fmt: skip
            examples.append(Example.from_dict(document, note))
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: examples)
    ruler.add([[{"TAG": "NN"}]], {"POS": "NOUN"})  # initializing forgets what was there
    for _ in range(20):
        nlp.update(examples, sgd=optimizer)
    folder = tmp_path_factory.mktemp("pipeline")
    nlp.to_disk(folder)
    return folder


def test_noun_chunks_of_spacy(pipeline: Path) -> None:
    assert list(SpacyPhrases(str(pipeline))(["A dog on the rug", "a  dog on the road"])) == [
        {"a dog", "the rug"},
        {"a dog", "the road"},
    ]
    texts = ["a dog on the rug"] * 200 + ["a cat on the field"] * 4 + ["a bird on the road"]
    kept = Counter(pair.turns[1].text for pair in balanced(pairs(texts), SpacyPhrases(str(pipeline)), seed=0))
    assert kept["a cat on the field"] == 4
    assert kept["a bird on the road"] == 0
    assert MAX_CAPTIONS <= kept["a dog on the rug"] <= 2 * MAX_CAPTIONS


def test_a_missing_pipeline_or_parser_is_an_error(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    with pytest.raises(MissingPackageError, match="python -m spacy download no_such_pipeline"):
        SpacyPhrases("no_such_pipeline")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(VistuneError, match="finds no noun chunks"):
        list(SpacyPhrases(str(tmp_path / "blank"))(["A dog."]))

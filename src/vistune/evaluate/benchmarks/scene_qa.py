"""Questions with one exact answer, made from the boxes of annotated images."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, benchmarks
from vistune.evaluate.benchmarks._metrics import accuracy, only
from vistune.evaluate.reading import read_answer
from vistune.records import Box, ImageRecord, Question, Verdict
from vistune.resources import load_yaml
from vistune.scene import facts, wording
from vistune.scene.english import number, plural
from vistune.scene.evidence import absent
from vistune.scene.mentions import MentionFinder, vocabulary

TYPES = ("existence", "count", "position", "relation", "category")
"""The types of questions, in the order of the tables."""
_MAX_COUNT = 6  # no question has a larger count as its answer
_UNSEEN = 4  # one question in four has a wording that training never used
_NEAR = 0.07  # an object this close to a region (in image sizes) might be described as in it


@dataclass(frozen=True)
class _Draft:
    """A question without its wording: the group of wordings, the answer, the words that fill them."""

    type: str
    wording: str
    answer: str
    words: Mapping[str, str]


@benchmarks.register("scene_qa")
class SceneQA(Benchmark):
    """Up to two questions of each type about every image, with one right answer each.

    Yes/no questions come in pairs, one of each answer, so that always answering "yes" scores half. Absent categories
    are drawn as often as they are present elsewhere, so that guessing by category does not help either. Counts are
    of an image's most numerous categories, so that "one" is no safe guess.
    """

    max_new_tokens: int = 40

    @cached_property
    def _finder(self) -> MentionFinder:
        return MentionFinder(vocabulary(self.setting.records))

    def questions(self) -> Iterable[Question]:
        """Sorted by type; `details["wording"]` is `seen` or `unseen` (in training)."""
        records, seed = self.setting.records, self.setting.seed
        present = Counter(name for record in records for name in {box.category for box in record.boxes})
        drafts: dict[str, list[tuple[ImageRecord, _Draft]]] = {kind: [] for kind in TYPES}
        for record in records:
            rng = random.Random(f"{seed}/{record.id}")
            for draft in _drafts(record, present, rng):
                drafts[draft.type].append((record, draft))
        for kind in TYPES:
            yield from _worded(drafts[kind], seed)

    def score(self, question: Question, answer: str) -> Verdict:
        """Right if the first answer in the text is the reference; unreadable is wrong."""
        read, how = read_answer(question.type, answer, question.text, self._finder)
        return Verdict(float(read == question.references[0]), read or "", how)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`accuracy` over all questions, and over those in wordings that are `seen` and `unseen` in training."""
        return {
            "accuracy": accuracy,
            "seen": only(accuracy, _worded_as("seen")),
            "unseen": only(accuracy, _worded_as("unseen")),
        }


def _worded_as(name: str) -> Callable[[Scored], bool]:
    return lambda one: bool(one.question.details["wording"] == name)


@cache
def unseen(wording: str) -> tuple[str, ...]:
    """The question templates of one group that training never uses (unseen.yaml)."""
    return tuple(load_yaml("vistune.evaluate.benchmarks", "unseen.yaml")[wording])


def _worded(drafts: Sequence[tuple[ImageRecord, _Draft]], seed: int) -> Iterable[Question]:
    """The drafts of one type as questions, a quarter of them (rounded) in unseen wordings."""
    new = set(random.Random(f"{seed}/unseen").sample(range(len(drafts)), round(len(drafts) / _UNSEEN)))
    for index, (record, draft) in enumerate(drafts):
        rng = random.Random(f"{seed}/{record.id}/{index}")
        templates = unseen(draft.wording) if index in new else wording.questions(draft.wording)
        text = wording.fill(rng.choice(templates), **draft.words)
        name = f"{record.id}/{draft.type}/{index}"
        details = {"wording": "unseen" if index in new else "seen"}
        yield Question(name, text, (record.image,), draft.type, (draft.answer,), details=details)


def _drafts(record: ImageRecord, present: Mapping[str, int], rng: random.Random) -> Iterable[_Draft]:
    crowds = {box.category for box in record.boxes if box.crowd}
    boxes = [box for box in record.boxes if box.category not in crowds]
    yield from _existence(record, present, rng)
    yield from _count(boxes, rng)
    yield from _position(boxes, rng)
    yield from _relation(boxes, rng)
    if not crowds:  # a crowd's box does not say where its objects are
        yield from _category(boxes, rng)


def _thing(name: str) -> dict[str, str]:
    return {"thing": name, "things": plural(name)}


def _existence(record: ImageRecord, present: Mapping[str, int], rng: random.Random) -> Iterable[_Draft]:
    """A category of a box, and one that is in no box or caption of the image but in other images."""
    boxed = sorted({box.category for box in record.boxes})
    elsewhere = absent(tuple(sorted(present)), record.boxes, record.captions)
    if boxed and elsewhere:
        missing = rng.choices(elsewhere, [present[name] for name in elsewhere])[0]
        yield _Draft("existence", "existence", "yes", _thing(rng.choice(boxed)))
        yield _Draft("existence", "existence", "no", _thing(missing))


def _count(boxes: Sequence[Box], rng: random.Random) -> Iterable[_Draft]:
    """The two most numerous categories."""
    counts = [(name, n) for name, n in sorted(facts.counts(boxes).items()) if n <= _MAX_COUNT]
    rng.shuffle(counts)
    counts.sort(key=lambda item: -item[1])  # equal ones stay shuffled
    for name, n in counts[:2]:
        yield _Draft("count", "count", number(n), _thing(name))


def _unique(boxes: Sequence[Box], rng: random.Random) -> list[Box]:
    unique = sorted(facts.unique(boxes), key=lambda box: box.category)
    return rng.sample(unique, len(unique))


def _position(boxes: Sequence[Box], rng: random.Random) -> Iterable[_Draft]:
    placed = [(box, where) for box in _unique(boxes, rng) if (where := facts.position(box))]
    for box, where in placed[:2]:
        yield _Draft("position", "position", where, _thing(box.category))


def _relation(boxes: Sequence[Box], rng: random.Random) -> Iterable[_Draft]:
    """One relation that holds and one that does not; two objects that are not level have both."""
    unique = _unique(boxes, rng)
    pairs = [(a, b, name) for a in unique for b in unique if a is not b for name in facts.RELATIONS]
    for answer in ("yes", "no"):
        choices = [(a, b, name) for a, b, name in pairs if facts.holds(name, a, b) is (answer == "yes")]
        if choices:
            a, b, name = rng.choice(choices)
            words = {"thing": a.category, "other": b.category, "relation": wording.spoken(name)}
            yield _Draft("relation", "relation", answer, words)


def _category(boxes: Sequence[Box], rng: random.Random) -> Iterable[_Draft]:
    """The only object in a region, and the only object on one side of another."""
    alone = _alone(boxes)
    if alone:
        box, where = rng.choice(alone)
        yield _Draft("category", "category", box.category, {"place": wording.place(where)})
    neighbors = facts.neighbors(boxes, _unique(boxes, rng))
    if neighbors:
        box, other, name = rng.choice(neighbors)
        words = {"other": other.category, "relation": wording.spoken(name)}
        yield _Draft("category", "neighbor", box.category, words)


def _alone(boxes: Sequence[Box]) -> list[tuple[Box, str]]:
    """The objects that no other one can be confused with by their region; `left` includes the top left."""
    possible = [_regions(box) for box in boxes]
    placed = [(box, where) for box in boxes if (where := facts.position(box))]
    return [
        (box, where)
        for box, where in placed
        if sum(any(set(where.split()) <= set(region.split()) for region in regions) for regions in possible) == 1
    ]


def _regions(box: Box) -> set[str]:
    """The regions that may describe the box: its own, and those that it would be in with a small shift."""
    shifts = (-_NEAR, 0.0, _NEAR)
    moved = [
        replace(box, x1=box.x1 + dx, x2=box.x2 + dx, y1=box.y1 + dy, y2=box.y2 + dy) for dx in shifts for dy in shifts
    ]
    return {where for box in moved if (where := facts.position(box))}

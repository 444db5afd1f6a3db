"""POPE: is an object in the image? Half of the objects are, half are not (Li et al. 2023)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from vistune.errors import DataError, VistuneError
from vistune.evaluate.benchmarks import Benchmark, Metric, Setting, benchmarks
from vistune.evaluate.benchmarks._helpers import image_folder, read_yes_no
from vistune.evaluate.benchmarks._metrics import accuracy, expects, f1, of_type, only, ratio_of, says
from vistune.formats import fitting, read_objects
from vistune.records import ImageRecord, Question, Verdict
from vistune.scene.english import with_article
from vistune.scene.evidence import absent
from vistune.scene.mentions import vocabulary

SPLITS = ("random", "popular", "adversarial")
"""Which absent objects a split asks for: any, the most frequent ones, those that often occur with the present one."""
_PAIRS = 3
_METRICS: Mapping[str, Metric] = {
    "f1": f1("yes", mean_of_types=True),
    "accuracy": accuracy,
    "precision": only(accuracy, says("yes")),
    "recall": only(accuracy, expects("yes")),
    "yes_ratio": ratio_of("yes"),
}


@benchmarks.register("pope")
class Pope(Benchmark):
    """Up to three present and as many absent objects of each image, in three splits; or the published questions.

    Answers are read as `read_yes_no` says. One that is neither yes nor no is unscored: it counts in no precision, and
    as not right in accuracy and recall.
    """

    max_new_tokens: int = 32

    def __init__(self, setting: Setting, questions: Sequence[Question] = ()) -> None:
        super().__init__(setting)
        self._given = list(questions)

    def questions(self) -> Iterable[Question]:
        """The published files' questions, else those about the annotated images; the type is the split."""
        return self._all

    @cached_property
    def _all(self) -> list[Question]:
        setting = self.setting
        if self._given:
            return self._given
        if setting.path is None:
            return list(sampled_questions(setting.records, setting.seed))
        return list(published_questions(setting.file, image_folder(setting)))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """By which rule answers are read."""
        return {"reading": "official" if self._official else "first sentence"}

    @property
    def _official(self) -> bool:
        return self.setting.options.get("protocol") == "paper"

    def score(self, question: Question, answer: str) -> Verdict:
        """Right if the answer read is the label."""
        read, how = read_yes_no(answer, question.text, official=self._official)
        if read is None:
            return Verdict(None, "", how)
        return Verdict(float(read == question.references[0]), read, how)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`f1`, the mean over the splits, `accuracy`, `precision`, `recall` and `yes_ratio`; each by split, too."""
        splits = dict.fromkeys(question.type for question in self._all)
        by_split = {
            f"{name}/{split}": only(metric, of_type(split)) for split in splits for name, metric in _METRICS.items()
        }
        return {**_METRICS, **(by_split if len(splits) > 1 else {})}


def sampled_questions(records: Sequence[ImageRecord], seed: int) -> Iterator[Question]:
    """POPE's sampling: for each image its first three categories, and an absent one for each of them.

    The official code leaves out images with fewer than three categories; here they get as many pairs as they have.
    An absent category is in no box or caption of the image, under any name. A split that runs out of its own
    candidates goes on with random ones.
    """
    names = vocabulary(records)
    present = {record.id: tuple(dict.fromkeys(box.category for box in record.boxes)) for record in records}
    counts = Counter(chain.from_iterable(present.values()))
    together = Counter((one, other) for found in present.values() for one in found for other in found)
    missing = {record.id: absent(names, record.boxes, record.captions) for record in records}
    for split in SPLITS:
        for record in records:
            rng = random.Random(f"{seed}/{split}/{record.id}")
            pool = rng.sample(missing[record.id], len(missing[record.id]))
            number = 0
            for name in present[record.id][:_PAIRS]:
                if not pool:
                    break
                ranks = {"popular": counts, "adversarial": Counter({one: together[name, one] for one in pool})}
                other = max(pool, key=ranks.get(split, Counter[str]()).__getitem__)
                pool.remove(other)
                for category, label in ((name, "yes"), (other, "no")):
                    text = f"Is there {with_article(category)} in the image?"
                    yield Question(f"{record.id}/{split}/{number}", text, (record.image,), split, (label,))
                    number += 1


def published_questions(path: Path, images: Path) -> Iterator[Question]:
    """The questions of POPE's files: rows {question_id, image, text, label} of a file, or of a folder's files.

    A row's `category` is its split (LLaVA's layout); without one the file's name says it. Raises DataError.
    """
    files = [path] if path.is_file() else [file for file in sorted(path.glob("*.json*")) if _is_pope(file)]
    if not files:
        fix = "it holds the files coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json"
        raise DataError("there is no file of POPE's questions in this folder", where=str(path), fix=fix)
    for file in sorted(files, key=_place):
        for number, row in enumerate(read_objects(file, DataError)):
            values = row.values
            label = str(values.get("label", "")).strip().lower()
            if label not in ("yes", "no") or not values.get("image") or not values.get("text"):
                fix = '{"question_id": 1, "image": "1.jpg", "text": "Is there a dog in the image?", "label": "yes"}'
                raise DataError("not a question of POPE", where=row.where, fix=fix)
            split = str(values.get("category") or split_of(file))
            name = f"{split}/{values.get('question_id', number)}"
            yield Question(name, str(values["text"]), (images / str(values["image"]),), split, (label,))


def split_of(file: Path) -> str:
    """The split that a file's name says, or the name."""
    return next((split for split in SPLITS if split in file.stem), file.stem)


def _place(file: Path) -> tuple[int, str]:
    split = split_of(file)
    return SPLITS.index(split) if split in SPLITS else len(SPLITS), file.name


def _is_pope(file: Path) -> bool:
    """Whether the first row of a file is a question with a label; POPE's folder also holds counts of objects."""
    try:
        first = next(iter(read_objects(file, DataError)), None) if fitting(str(file)) else None
    except VistuneError:
        return False
    return first is not None and {"image", "text", "label"} <= first.values.keys()

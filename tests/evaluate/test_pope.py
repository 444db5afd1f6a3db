from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks._helpers import read_yes_no
from vistune.evaluate.benchmarks.pope import SPLITS, Pope
from vistune.evaluate.runner import measure, score
from vistune.records import Box, ImageRecord

DOG = "Is there a dog in the image?"


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("yes", "yes"), ("No.", "no"), ("NO!", "no"), ("no;", "no"), ("Yes, there is. It is not big.", "yes"),
        ("There is not a dog. Yes.", "no"), ("There is a dog in it", "yes"), ("A dog", "yes"),
        ("I don't see any dog", "no"), (". No", "no"), ("", None), ("...", None), ("Maybe", None),
        ("I can't help with that", None), ("A cat", None),
    ],
)  # fmt: skip
def test_reading(answer: str, read: str | None) -> None:
    found, how = read_yes_no(answer, DOG)
    assert found == read
    assert how


def test_the_official_reading_is_literal() -> None:
    readings = {"NO!": "yes", "Maybe": "yes", "No, a cat": "no", ". No": "yes", "": None, "?": None}
    assert {text: read_yes_no(text, DOG, official=True)[0] for text in readings} == readings


def record(number: int, *names: str, captions: tuple[str, ...] = ()) -> ImageRecord:
    boxes = tuple(Box(name, 0, 0, 1, 1) for name in names)
    return ImageRecord(str(number), Path(f"{number}.jpg"), 9, 9, captions, boxes)


RECORDS = [
    record(0, "dog", "cat", "person", "car", captions=("A bus stands behind.",)),
    *(record(n, "person", "chair", "bus") for n in range(1, 6)),
    *(record(n, "cat", "bowl") for n in range(6, 9)),
    record(9, "person", "bowl"),
]


def test_sampling() -> None:
    asked = list(Pope(Setting(annotated=RECORDS, seed=1)).questions())
    assert asked == list(Pope(Setting(annotated=RECORDS, seed=1)).questions())
    assert len({one.id for one in asked}) == len(asked)
    assert Counter(one.type for one in asked) == dict.fromkeys(SPLITS, 2 * (6 * 3 + 4 * 2) - 2)
    for split in SPLITS:
        mine = [one for one in asked if one.type == split]
        labels = Counter((one.cluster, one.references[0]) for one in mine)
        assert all(labels[cluster, "yes"] == labels[cluster, "no"] for cluster, _ in labels)
        assert len({(one.cluster, one.text) for one in mine}) == len(mine)
        first = [(one.text, one.references[0]) for one in mine if one.cluster == "0.jpg"]
        assert [text for text, label in first if label == "yes"] == [
            "Is there a dog in the image?", "Is there a cat in the image?"  # only two categories are absent
        ]  # fmt: skip
        absent = {text for text, label in first if label == "no"}
        assert absent <= {f"Is there a {name} in the image?" for name in ("chair", "bowl")}  # a caption has the bus


def test_popular_and_adversarial_objects() -> None:
    asked = list(Pope(Setting(annotated=RECORDS)).questions())
    absent = {
        split: [one.text for one in asked if (one.type, one.cluster, one.references) == (split, "9.jpg", ("no",))]
        for split in SPLITS
    }
    assert absent["popular"][0] in {f"Is there a {name} in the image?" for name in ("chair", "bus")}  # in five images
    assert absent["adversarial"][1] == "Is there a cat in the image?"  # it is with the bowl in three


def published(folder: Path) -> Path:
    for place, split in enumerate(SPLITS):
        rows = [
            {"question_id": 1, "image": "1.jpg", "text": DOG, "label": "yes"},
            {"question_id": 2, "image": "1.jpg", "text": f"Is there a thing {place} in the image?", "label": "no"},
        ]
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)))
    (folder / "coco_co_occur.json").write_text('{"dog": ["cat"]}')
    return folder


def test_published_questions(tmp_path: Path) -> None:
    benchmark = Pope(Setting(published(tmp_path), images=Path("val2014")))
    asked = list(benchmark.questions())
    assert [one.id for one in asked] == [f"{split}/{n}" for split in SPLITS for n in (1, 2)]
    assert asked[0].images == (Path("val2014/1.jpg"),)
    answers = ["Yes", "No", "Yes", "Yes", "", "No"]
    scores = measure(benchmark, score(benchmark, asked, answers))
    values = {name: one.value for name, one in scores.measures.items()}
    assert values["f1/random"] == 1
    assert values["f1/popular"] == pytest.approx(2 / 3)
    assert values["f1/adversarial"] == 0  # no "yes": an empty answer is none
    assert values["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["recall"] == pytest.approx(2 / 3)
    assert values["yes_ratio"] == pytest.approx(3 / 6)
    assert values["precision/adversarial"] is None
    assert scores.unscored == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of POPE's questions(.|\n)*coco_pope_random"):
        list(Pope(Setting(tmp_path)).questions())
    path = tmp_path / "questions.jsonl"
    path.write_text('{"image": "1.jpg", "text": "Is there a dog?"}')
    with pytest.raises(DataError, match="line 1: not a question of POPE"):
        list(Pope(Setting(path)).questions())

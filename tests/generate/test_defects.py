"""How many labelled defects the filters find, and how much of what they flag is one.

`development.jsonl` is what they were written by; `held_out.jsonl` has other wordings, and nothing was tuned on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vistune.generate.filters import FILTERS, Sample
from vistune.generate.kinds import Prompts
from vistune.records import ImageRecord, Turn
from vistune.scene.context import parse_context

HALVES = ("development", "held_out")
BY_WORDS = ("leak", "refusal", "echo")
BY_ANNOTATIONS = ("ungrounded", "wrong_count", "wrong_place")


def defects(half: str) -> list[dict[str, Any]]:
    lines = (Path(__file__).parent / "defects" / f"{half}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _record(context: str) -> ImageRecord:
    captions, boxes = parse_context(context)
    return ImageRecord("1", Path("1.jpg"), captions=captions, boxes=boxes)


def judged(half: str, code: str) -> Iterator[tuple[bool, bool]]:
    """Of each sample whether it has the defect, and whether the filter says so.

    The filters by annotations are judged on the samples made for them: the others' texts are about no image at all.
    """
    for made in defects(half):
        if code in BY_WORDS or made["filter"] in BY_ANNOTATIONS:
            turns = tuple(Turn(role, text) for role, text in made["turns"])
            sample = Sample(Prompts().load(made["kind"]), _record(made["context"]), turns)
            yield made["defect"] and made["filter"] == code, FILTERS[code](sample)


def rates(halves: Iterable[str], code: str) -> tuple[float, float]:
    """Recall and precision."""
    results = [result for half in halves for result in judged(half, code)]
    found = results.count((True, True))
    defective, flagged = sum(is_one for is_one, _ in results), sum(flag for _, flag in results)
    print(f"{' and '.join(halves)} {code}: recall {found}/{defective}, precision {found}/{flagged}")
    return found / defective, found / flagged


@pytest.mark.parametrize("code", BY_WORDS)
def test_leaks_refusals_and_echoes_are_found(code: str) -> None:
    recall, precision = rates(HALVES, code)
    assert recall >= 0.98
    assert precision >= 0.95


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("code", BY_WORDS)
def test_unseen_wordings_are_found_nearly_as_well(half: str, code: str) -> None:
    recall, precision = rates([half], code)
    assert recall >= 0.97  # a half has 30 to 48 defects: one missed is 2 to 3 %
    assert precision >= 0.95


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("code", BY_ANNOTATIONS)
def test_what_contradicts_the_annotations_is_flagged_rightly(half: str, code: str) -> None:
    recall, precision = rates([half], code)
    assert recall >= 0.8
    assert precision >= 0.85


def test_there_are_enough_labelled_defects() -> None:
    made = [one for half in HALVES for one in defects(half)]
    assert sum(one["defect"] for one in made) >= 500
    assert sum(not one["defect"] for one in made) >= 500
    assert len({one["id"] for one in made}) == len(made)
    assert {one["filter"] for one in made} >= {*BY_WORDS, *BY_ANNOTATIONS}


def test_the_halves_share_no_defect_of_words() -> None:
    said = [{one["turns"][-1][1] for one in defects(half) if one["filter"] in BY_WORDS[:2]} for half in HALVES]
    assert said[0].isdisjoint(said[1])

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.generate.kinds import Prompts
from vistune.generate.plan import Amount, First, Shard, make_plan, parse_amounts
from vistune.records import ImageRecord

RECORDS = [ImageRecord(str(n), Path(f"{n}.jpg"), 9, 9, ("A dog.",) if n % 3 else ()) for n in range(900)]


def chosen(kinds: dict[str, Amount], records: list[ImageRecord] = RECORDS, seed: int = 0) -> list[str]:
    """The ids of the images with a request."""
    return [planned.record.id for planned in make_plan(records, kinds, seed) if planned.request]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("58k", 58_000), ("1.5M", 1_500_000), ("23", 23), ("0.25", 0.25), ("5%", 0.05), ("all", 1),
    ],
)  # fmt: skip
def test_the_amounts_of_a_recipe(text: str, amount: Amount) -> None:
    assert parse_amounts({"detail": text}, ["detail"]) == {"detail": amount}


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"detial": "3"}, "unknown kind 'detial'\n  fix: did you mean 'detail'"),
        ({"detail": "many"}, "'many' is not an amount"),
        ({"detail": "-3"}, "'-3' is not an amount"),
        ({"detail": "150%"}, "'150%' is more than all images\n  fix: a share is at most 1.0 or 100%"),
        ({"detail": "1.5"}, r"'1\.5' is more than all images"),
        ({"detail": "0"}, "selects no image\n  fix: leave the kind out"),
        ({"detail": "0%"}, "selects no image"),
        ({}, "there are no kinds\n  fix: name some of: conversation, "),
    ],
)
def test_mistakes_in_amounts(kinds: dict[str, str], message: str) -> None:
    with pytest.raises(VistuneError, match=message):
        parse_amounts(kinds, Prompts().folders())


@pytest.mark.parametrize("count", [1, 2, 7, 599, 600])
def test_a_quota_is_exactly_so_many_of_the_images_that_can_be_asked_about(count: int) -> None:
    assert len(chosen({"conversation": count})) == count


def test_a_quota_depends_on_ids_and_seed_alone_and_grows() -> None:
    few, many = chosen({"detail": 50}), chosen({"detail": 200})
    assert set(few) < set(many)
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    assert sorted(chosen({"detail": 50}, shuffled)) == sorted(few)
    assert chosen({"detail": 50}, seed=1) != few
    assert set(chosen({"detail": 50, "conversation": 0.5})) > set(few)


def test_a_quota_larger_than_the_data_is_an_error() -> None:
    with pytest.raises(VistuneError, match="601 images are requested, but only 600 have captions"):
        chosen({"conversation": 601})


def test_the_first_few_records() -> None:
    assert list(First(RECORDS, 2)) == RECORDS[:2] == list(First(iter(RECORDS), 2))


def test_a_quota_counts_all_images_whatever_the_shards() -> None:
    def planned(shard: Shard | None) -> list[str]:
        plan = make_plan(RECORDS, {"detail": 40}, 0, shard=shard)
        return [sample.record.id for sample in plan if sample.request]

    parts = [planned(Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(one for part in parts for one in part) == sorted(planned(None))
    assert sum(map(len, parts)) == 40


def test_a_pilot_is_exactly_that_number_of_samples() -> None:
    plan = make_plan(RECORDS, {"conversation": 1.0, "detail": 0.5}, 0)
    drawn = [sample.id for sample in plan.pilot(50)]
    assert len(drawn) == len(set(drawn)) == 50
    assert drawn == [sample.id for sample in plan.pilot(50)]

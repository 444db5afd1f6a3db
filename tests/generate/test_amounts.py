from __future__ import annotations

import random
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.generate.amounts import Amount, Lowest, Quota, parse_amounts
from vistune.generate.kinds import Prompts
from vistune.generate.plan import First, make_plan
from vistune.records import ImageRecord

RECORDS = [ImageRecord(str(n), Path(f"{n}.jpg"), 9, 9, ("A dog.",) if n % 3 else ()) for n in range(900)]


def chosen(kinds: dict[str, Amount], records: list[ImageRecord] = RECORDS, seed: int = 0) -> list[str]:
    """The ids of the images that are asked about."""
    return [planned.record.id for planned in make_plan(records, kinds, seed, "x") if planned.request]


def test_what_the_command_line_says() -> None:
    said = parse_amounts("conversation=58k, detail=0.25,reasoning=all", sorted(Prompts().folders()))
    assert said == {"conversation": Quota(58_000), "detail": 0.25, "reasoning": 1.0}
    assert parse_amounts("detail=1.5M", ["detail"]) == {"detail": Quota(1_500_000)}
    assert parse_amounts("detail=23", ["detail"]) == {"detail": Quota(23)}
    assert parse_amounts("detail=5%", ["detail"]) == {"detail": 0.05}
    assert parse_amounts("detail", ["detail"]) == {"detail": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detial=3", "did you mean 'detail'"),
        ("detail=many", "'many' is no amount"),
        ("detail=-3", "'-3' is no amount"),
        ("detail=1,detail=2", "there twice"),
        ("detail=150%", "'150%' is more than all images\n  fix: a share is up to 1.0 or 100%"),
        ("detail=1.5", r"'1\.5' is more than all images"),
        ("detail=0", "nothing is asked for\n  fix: leave the kind out"),
        ("detail=0%", "nothing is asked for"),
        ("", "a kind's name is missing\n  fix: leave --kinds out, or name some of: conversation, "),
        ("detail,", "a kind's name is missing"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(VistuneError, match=message):
        parse_amounts(text, sorted(Prompts().folders()))


@pytest.mark.parametrize("count", [1, 2, 7, 599, 600])
def test_a_quota_is_exactly_so_many_of_the_images_that_can_be_asked_about(count: int) -> None:
    assert len(chosen({"conversation": Quota(count)})) == count


def test_a_quota_depends_on_ids_and_seed_alone_and_grows() -> None:
    few, many = chosen({"detail": Quota(50)}), chosen({"detail": Quota(200)})
    assert set(few) < set(many)
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    assert sorted(chosen({"detail": Quota(50)}, shuffled)) == sorted(few)
    assert chosen({"detail": Quota(50)}, seed=1) != few
    assert set(chosen({"detail": Quota(50), "conversation": 0.5})) > set(few)


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(VistuneError, match="601 images are asked for, but only 600 have captions"):
        chosen({"conversation": Quota(601)})
    with pytest.raises(VistuneError, match=r"the share 58000 is not within 0 and 1\n  fix: .*Quota\(58000\)"):
        chosen({"conversation": 58000})
    with pytest.raises(VistuneError, match=r"the share 1\.5 is not within 0 and 1$"):
        chosen({"conversation": 1.5})
    with pytest.raises(VistuneError, match="the quota 0 is no number"):
        chosen({"conversation": Quota(0)})


def test_the_lowest_of_many_values_in_little_memory() -> None:
    values = [random.Random(0).random() for _ in range(1)] + [random.Random(n).random() for n in range(20_000)]
    lowest = Lowest(17)
    for value in values:
        lowest.add(value)
    assert sum(value < lowest.bound() for value in values) == 17
    assert len(lowest._values) <= 17


def test_the_first_few_records() -> None:
    assert list(First(RECORDS, 2)) == RECORDS[:2] == list(First(iter(RECORDS), 2))


def test_a_quota_is_of_all_images_whatever_the_shards(tmp_path: Path) -> None:
    from rich.console import Console

    from vistune.generate.kinds import Prompts
    from vistune.generate.limits import Limits
    from vistune.generate.shard import Shard
    from vistune.generate.sort import Style
    from vistune.generate.task import Task
    from vistune.llm.providers.scripted import ScriptedClient

    def asked(shard: Shard | None) -> list[str]:
        task = Task(
            RECORDS, ScriptedClient([]), tmp_path, {"detail": Quota(40)}, Prompts(), 0, {}, 1, 1, Style(),
            Console(quiet=True), Limits(), shard,
        )  # fmt: skip
        return [planned.record.id for planned in task.plan() if planned.request]

    parts = [asked(Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(one for part in parts for one in part) == sorted(asked(None))
    assert sum(map(len, parts)) == 40

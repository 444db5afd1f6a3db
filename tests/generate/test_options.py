"""What `vistune generate` says to options that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from generating import annotations, command, report, run
from teacher_server import teaching
from vistune.cli import main
from vistune.errors import VistuneError
from vistune.generate import Limits, Price


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return annotations(tmp_path, 12)


def generate(data: Path, *options: str) -> int:
    """The command's exit code, in this process."""
    return main(["generate", str(data), "--source", "caps_boxes", *options])


@pytest.mark.parametrize("name", ["pilot", "limit", "concurrency", "attempts", "max-tokens", "max-total-tokens"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "9" * 30])
def test_a_number_of_things_is_at_least_one(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "data", "--out", "out", f"--{name}={value}"])
    assert caught.value.code == 2
    assert f"argument --{name}: '{value}' is not a whole number from 1 up" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["max-usd", "timeout", "patience"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e300", "much"])
def test_time_and_money_are_numbers_above_zero(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "data", "--out", "out", f"--{name}={value}"])
    assert caught.value.code == 2
    assert f"argument --{name}: '{value}' is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("cap", [0, -1, float("nan"), float("inf")])
def test_a_cap_from_python_is_one(cap: float) -> None:
    with pytest.raises(VistuneError, match="is not positive"):
        Limits(price=Price(1, 1, 1), max_usd=cap)


def test_merge_may_be_repeated(data: Path, tmp_path: Path) -> None:
    with teaching() as teacher:
        shards = [tmp_path / str(number) for number in (1, 2, 3)]
        for number, shard in enumerate(shards, 1):
            run(command(data, teacher.url, shard, "--shard", f"{number}/3"))
        asked = teacher.stats()["requests"]
        options = [option for shard in shards for option in ("--merge", str(shard))]
        run(command(data, teacher.url, tmp_path / "merged", *options))
        assert teacher.stats()["requests"] == asked
    assert report(tmp_path / "merged")["asked"] == 12


def test_a_run_is_not_merged_into_itself(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert generate(data, "--out", str(out)) == 0
    assert generate(data, "--out", str(out), "--merge", f"{out}/../out") == 2
    assert "out: a run cannot be merged into itself\n  fix: leave it out of --merge" in capsys.readouterr().err

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from vistune.generate.judge import JudgedSample
from vistune.generate.report import Report, load_references
from vistune.records import Turn

ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def filled(order: int = 0) -> Report:
    """Sixty replies of two kinds, every fifth rejected."""
    report, numbers = Report(["conversation", "own <b>kind</b>"]), list(range(60))
    random.Random(order).shuffle(numbers)
    for number in numbers:
        bad = number % 5 == 0
        turns = (
            Turn("user", f"What is {ATTACK}?"),
            Turn("assistant", f"Number {number}. {ATTACK} " * (1 + number % 7)),
        )
        about: dict[str, Any] = {"id": f"{number}-x", "kind": list(report.kinds)[number % 2], "usage": {}, "cost": None}
        about |= {"attempts": 1, "verdict": "filtered" if bad else "accepted", "reasons": ["leak"] if bad else []}
        report.add(JudgedSample(about, () if number % 10 == 0 else turns, f"raw {ATTACK}", ("dog",)))
    report.kinds["conversation"].count("pending")
    return report


def test_the_page_in_a_browser(tmp_path: Path, pages: Any) -> None:
    filled().write(tmp_path / "report.json")
    shown = pages.open(tmp_path / "report.html")
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("main script, main img, main h3 b").count() == 0
    assert shown.locator(".tile b").all_inner_texts() == ["78.7%", "19.7%", "0.0%", "1.6%"]
    assert shown.locator("article").count() == 20
    assert shown.locator("article .chip").count() == 10
    assert shown.locator("article .raw").first.inner_text() == f"raw {ATTACK}"
    assert pages.complaints == []


def test_the_order_of_the_replies_changes_nothing(tmp_path: Path) -> None:
    for order in (0, 1):
        filled(order).write(tmp_path / f"{order}.json")
    for ending in ("json", "html"):
        assert (tmp_path / f"0.{ending}").read_bytes() == (tmp_path / f"1.{ending}").read_bytes()


def test_a_report_on_nothing_is_a_page_all_the_same(tmp_path: Path) -> None:
    Report(["conversation"]).write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["asked"] == 0
    assert "No sample was rejected." in (tmp_path / "report.html").read_text()


def test_the_references_are_those_of_the_90_answers() -> None:
    kinds = load_references()["kinds"]
    assert [kinds[name]["words"]["mean"] for name in ("conversation", "detail", "reasoning")] == [
        16.467,
        78.167,
        112.633,
    ]
    assert sum(kind["samples"] for kind in kinds.values()) == 158_000

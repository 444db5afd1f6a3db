from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vistune.generate.judge import JudgedSample
from vistune.generate.report import Report
from vistune.records import Turn


def judged(number: int, verdict: str, reasons: tuple[str, ...] = (), *answers: str) -> JudgedSample:
    turns = tuple(turn for text in answers for turn in (Turn("user", "What is it?"), Turn("assistant", text)))
    about: dict[str, Any] = {"id": f"{number}-conversation", "kind": "conversation"}
    about |= {"usage": {"input": 100, "output": 20, "cached": 60}, "attempts": 2, "cost": 0.25}
    return JudgedSample({**about, "verdict": verdict, "reasons": reasons}, turns, "raw", ("dog", "wine glass", "cat"))


def example() -> Report:
    report = Report(["conversation", "detail"])
    report.add(judged(0, "accepted", (), "A dog.", "A very large dog with wine glasses."))
    report.add(judged(1, "accepted", (), "Two cats."))
    report.add(judged(2, "filtered", ("leak", "refusal"), "As an AI, I saw no caption."))
    report.add(judged(3, "quarantined", ("wrong_order",)))
    report.kinds["detail"].count("pending")
    report.pairs, report.sent = 4, 2
    return report


def test_the_figures() -> None:
    figures = example().to_dict()["kinds"]["conversation"]
    assert [figures[name] for name in ("asked", "accepted", "filtered", "quarantined", "pending")] == [4, 2, 1, 1, 0]
    assert figures["reasons"] == {"leak": 1, "wrong_order": 1}
    assert figures["turns"] == {"mean": 1.5, "min": 1, "p10": 1, "p50": 1, "p90": 2, "max": 2}
    assert (figures["words"]["mean"], figures["words"]["max"]) == (3.667, 7)
    assert figures["objects_named"] == 0.5  # dog and wine glass of the first, cat of the second, of three each
    assert figures["cost"]["tokens"] == {"input": 400, "output": 80, "cached": 240}
    assert figures["cost"]["per_accepted"] == {"input": 200, "output": 40, "cached": 120, "usd": 0.5}


def test_every_request_is_counted_once() -> None:
    totals = example().totals()
    assert totals == {"asked": 5, "accepted": 2, "filtered": 1, "quarantined": 1, "pending": 1}


@pytest.mark.parametrize(("changed", "lost"), [({"cost": None}, "usd"), ({"usage": {"input": 3}}, "tokens")])
def test_what_is_not_known_of_one_is_not_summed(changed: dict[str, Any], lost: str) -> None:
    report = example()
    one = judged(4, "accepted", (), "A dog.")
    report.add(JudgedSample({**one.about, **changed}, one.turns, one.text))
    cost = report.to_dict()["kinds"]["conversation"]["cost"]
    assert cost[lost] is None
    assert cost["per_accepted"]["usd" if lost == "usd" else "output"] is None
    assert cost["per_accepted"]["output" if lost == "usd" else "usd"] > 0


def test_the_file_does_not_tell_what_was_sent_this_time(tmp_path: Path) -> None:
    report = example()
    report.write(tmp_path / "1.json")
    report.sent = 0
    report.write(tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    content = json.loads((tmp_path / "1.json").read_text())
    assert (content["caption_pairs"], content["pending"]) == (4, 1)
    assert content["kinds"]["detail"]["words"]["mean"] == 0
    assert content["kinds"]["detail"]["diversity"]["answers"]["distinct_1"] is None


def test_the_tables_fit_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(example().table(), example().quality_table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "conversation: leak 1, wrong_order 1" in text
    assert "quarantined" in text
    assert "pending" in text
    assert "3.7 (16.5)" in text
    assert "50%" in text
    assert "0.50000" in text
    assert "\u2026" not in text

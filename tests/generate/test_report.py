from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from vistune.generate.report import KindReport, Report
from vistune.records import Turn


def pairs(*answers: str) -> list[Turn]:
    return [turn for text in answers for turn in (Turn("user", "What is it?"), Turn("assistant", text))]


def example() -> Report:
    kind = KindReport()
    kind.add("accepted", (), pairs("A dog.", "A very large dog."))
    kind.add("accepted", (), pairs("No."))
    kind.add("filtered", ("leak", "refusal"), pairs("As an AI, I saw no caption."))
    kind.add("quarantined", ("wrong_order",), ())
    return Report({"conversation": kind, "detail": KindReport()}, pairs=4, sent=2)


def test_the_figures() -> None:
    figures = example().kinds["conversation"].to_dict()
    assert (figures["asked"], figures["accepted"], figures["filtered"], figures["quarantined"]) == (4, 2, 1, 1)
    assert figures["reasons"] == {"leak": 1, "wrong_order": 1}
    assert figures["turns"] == {"mean": 1.5, "min": 1, "max": 2}
    assert figures["words"] == {"mean": 2.333, "min": 1, "max": 4}


def test_the_file_does_not_tell_what_was_sent_this_time(tmp_path: Path) -> None:
    example().write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content.keys() == {"kinds", "caption_pairs", "without_context"}
    assert content["kinds"]["detail"]["words"] == {"mean": 0.0, "min": 0, "max": 0}


def test_the_table_fits_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(example().table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "conversation: leak 1, wrong_order 1" in text
    assert "quarantined" in text
    assert "\u2026" not in text

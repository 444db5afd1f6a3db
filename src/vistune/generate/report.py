"""What became of the requests, kind by kind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from vistune.generate.output import replacing
from vistune.records import Turn

Verdict = Literal["accepted", "filtered", "quarantined"]


@dataclass
class KindReport:
    """One kind's figures. accepted + filtered + quarantined = asked; `reasons` counts each rejected one once."""

    asked: int = 0
    accepted: int = 0
    filtered: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)

    def add(self, verdict: Verdict, reasons: Sequence[str], turns: Sequence[Turn]) -> None:
        """Count one reply; `turns` matter only where it is accepted."""
        self.asked += 1
        setattr(self, verdict, getattr(self, verdict) + 1)
        if verdict != "accepted":
            self.reasons[reasons[0]] += 1
            return
        self.turns[len(turns) // 2] += 1
        self.words.update(len(turn.text.split()) for turn in turns if turn.role == "assistant")

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON: `turns` (pairs a sample) and `words` (an answer) as mean, least and most."""
        counts = {name: getattr(self, name) for name in ("asked", "accepted", "filtered", "quarantined")}
        return {**counts, "reasons": self._sorted_reasons(), "turns": _spread(self.turns), "words": _spread(self.words)}

    def rejected(self) -> str:
        """The reasons of rejection in a line, the most frequent first."""
        return ", ".join(f"{code} {count:,}" for code, count in self._sorted_reasons().items())

    def _sorted_reasons(self) -> dict[str, int]:
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))


@dataclass
class Report:
    """The whole run's figures. `sent` is how many replies were not in the store and had to be asked for."""

    kinds: dict[str, KindReport]
    pairs: int = 0
    without_context: int = 0
    sent: int = 0

    def write(self, path: Path) -> None:
        """Write what does not depend on earlier runs as JSON."""
        kinds = {name: kind.to_dict() for name, kind in self.kinds.items()}
        content = {"kinds": kinds, "caption_pairs": self.pairs, "without_context": self.without_context}
        with replacing(path) as file:
            file.write(json.dumps(content, indent=2) + "\n")

    def table(self) -> Table:
        """The figures for the terminal; `pairs` and `words` are means per sample and per answer."""
        rejected = [f"{name}: {kind.rejected()}" for name, kind in self.kinds.items() if kind.reasons]
        table = Table(title="instruction data", caption="\n".join(rejected), caption_justify="left")
        table.add_column("kind", no_wrap=True)
        for column in ("asked", "accepted", "filtered", "quarantined", "pairs", "words"):
            table.add_column(column, justify="right")
        for name, kind in self.kinds.items():
            row = kind.to_dict()
            counts = [f"{row[key]:,}" for key in ("asked", "accepted", "filtered", "quarantined")]
            table.add_row(name, *counts, *(f"{row[key]['mean']:.1f}" for key in ("turns", "words")))
        return table


def _spread(values: Counter[int]) -> dict[str, float]:
    total = values.total()
    mean = sum(value * n for value, n in values.items()) / total if total else 0.0
    return {"mean": round(mean, 3), "min": min(values, default=0), "max": max(values, default=0)}

"""What became of the requests, kind by kind, and how good the accepted samples are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from vistune.generate.judged import Judged, Verdict
from vistune.generate.quality.cost import Cost
from vistune.generate.quality.counters import Histogram
from vistune.generate.quality.coverage import Coverage
from vistune.generate.quality.diversity import Diversity
from vistune.generate.quality.references import load_references
from vistune.pages import render
from vistune.pages.charts import BAR_SIZE, BarChart, bar_chart
from vistune.seeded import HashSample
from vistune.storage import atomic_text

_VERDICTS = ("asked", "accepted", "filtered", "quarantined", "pending")
_EXAMPLES = 10


class KindReport:
    """One kind's figures. accepted + filtered + quarantined + pending = asked.

    `asked` counts the requests of the plan, `pending` those without a reply yet; `reasons` counts each rejected reply
    once, under its first reason. Lengths, diversity and coverage are those of the accepted samples.
    """

    def __init__(self) -> None:
        self.asked = self.accepted = self.filtered = self.quarantined = self.pending = 0
        self.reasons: Counter[str] = Counter()
        self.turns, self.question_words, self.words = Histogram(), Histogram(), Histogram()
        self.diversity, self.coverage, self.cost = Diversity(), Coverage(), Cost()

    def add(self, one: Judged) -> None:
        """Count one reply."""
        self._count(one.verdict, one.reasons)
        self.cost.add(one.about)
        if one.verdict != "accepted":
            return
        self.turns.add(len(one.turns) // 2)
        for turn in one.turns:
            (self.question_words if turn.role == "user" else self.words).add(len(turn.text.split()))
        self.diversity.add(one.id, one.turns)
        self.coverage.add(one.categories, (turn.text for turn in one.turns))

    def add_pending(self, count: int) -> None:
        """Count requests without a reply."""
        self.asked += count
        self.pending += count

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON: `turns` are pairs a sample, `words` an answer's, `question_words` a question's."""
        lengths = {name: getattr(self, name).to_dict() for name in ("turns", "question_words", "words")}
        share = self.coverage.share()
        return {
            **{name: getattr(self, name) for name in _VERDICTS},
            "reasons": sorted_reasons(self.reasons),
            **lengths,
            "diversity": self.diversity.to_dict(),
            "objects_named": None if share is None else round(share, 4),
            "cost": self.cost.to_dict(self.accepted),
        }

    def rejected(self) -> str:
        """The reasons of rejection in a line, the most frequent first."""
        return ", ".join(f"{code} {count:,}" for code, count in sorted_reasons(self.reasons).items())

    def _count(self, verdict: Verdict, reasons: Sequence[str]) -> None:
        self.asked += 1
        setattr(self, verdict, getattr(self, verdict) + 1)
        if verdict != "accepted":
            self.reasons[reasons[0]] += 1


class Report:
    """The whole run's figures. `sent` is how many requests were sent, those sent again included.

    `pairs` are the caption pairs of stage 1, `without_context` the samples that were not asked for because the image
    has nothing that the kind shows. Memory is bounded, whatever the run's size.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = {name: KindReport() for name in kinds}
        self.pairs = self.without_context = self.sent = 0
        self.examples: dict[str, HashSample[Judged]] = {
            "accepted": HashSample(_EXAMPLES, "accepted"), "rejected": HashSample(_EXAMPLES, "rejected")
        }  # fmt: skip

    def add(self, one: Judged) -> None:
        """Count one reply."""
        self.kinds[one.kind].add(one)
        self.examples["accepted" if one.verdict == "accepted" else "rejected"].add(one.id, lambda: one)

    def add_pending(self, kind: str, count: int = 1) -> None:
        """Count requests without a reply."""
        self.kinds[kind].add_pending(count)

    def totals(self) -> dict[str, int]:
        """asked, accepted, filtered, quarantined and pending over all kinds."""
        return {name: sum(getattr(kind, name) for kind in self.kinds.values()) for name in _VERDICTS}

    def to_dict(self) -> dict[str, Any]:
        """What does not depend on earlier runs, as JSON."""
        return {
            **self.totals(),
            "kinds": {name: kind.to_dict() for name, kind in self.kinds.items()},
            "caption_pairs": self.pairs,
            "without_context": self.without_context,
        }

    def write(self, path: Path) -> None:
        """Write `to_dict` to a JSON file, and the page about it beside that."""
        with atomic_text(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2) + "\n")
        with atomic_text(path.with_suffix(".html")) as file:
            file.write(self.page())

    def page(self) -> str:
        """The report as one HTML file; the same for the same replies."""
        references = load_references()
        parts = ("question_words", "words", "turns")
        charts = {
            name: {part: _chart(getattr(kind, part), references["kinds"].get(name, {}).get(part)) for part in parts}
            for name, kind in self.kinds.items()
            if kind.accepted
        }
        examples = {name: sample.items() for name, sample in self.examples.items()}
        return render(
            "quality.html", report=self.to_dict(), charts=charts, references=references, examples=examples,
            size=BAR_SIZE,
        )  # fmt: skip

    def table(self) -> Table:
        """The figures for the terminal; `pairs` and `words` are means per sample and per answer."""
        rejected = [f"{name}: {kind.rejected()}" for name, kind in self.kinds.items() if kind.reasons]
        table = Table(title="instruction data", caption="\n".join(rejected), caption_justify="left", box=SIMPLE_HEAD)
        table.pad_edge, table.collapse_padding = False, True
        table.add_column("kind", no_wrap=True)
        names = [name for name in _VERDICTS if name != "pending" or self.totals()["pending"]]
        for column in (*names, "pairs", "words"):
            table.add_column(column, justify="right")
        for name, kind in self.kinds.items():
            counts = [f"{getattr(kind, key):,}" for key in names]
            means = (kind.turns.to_dict()["mean"], kind.words.to_dict()["mean"])
            table.add_row(name, *counts, *(f"{mean:.1f}" for mean in means))
        return table

    def quality_table(self) -> Table:
        """What the accepted samples are like, for the terminal; what it means is in docs/concepts/quality.md."""
        references = load_references()
        table = Table(title="accepted samples", box=SIMPLE_HEAD, caption_justify="left")
        table.caption = (
            f"words an answer, in brackets: {references['source']}"
            "\ndist-2: different pairs of words in questions, answers"
            "\nactions: a question's verb and noun; named: of the boxed objects\ntokens, USD: output and cost for each"
        )
        table.pad_edge, table.collapse_padding = False, True
        table.add_column("kind", no_wrap=True)
        for column in ("words", "dist-2 q", "a", "actions", "named", "tokens", "USD"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, kind in self.kinds.items():
            row = kind.to_dict()
            reference = references["kinds"].get(name, {}).get("words")
            words = f"{row['words']['mean']:.1f}" + (f" ({reference['mean']:.1f})" if reference else "")
            distinct = (_told(row["diversity"][side]["distinct_2"], ".3f") for side in ("questions", "answers"))
            per = row["cost"]["per_accepted"]
            actions, named = f"{row['diversity']['different_actions']:,}", _told(row["objects_named"], ".0%")
            table.add_row(
                name, words, *distinct, actions, named, _told(per["output"], ",.0f"), _told(per["usd"], ".5f")
            )
        return table


def _chart(lengths: Histogram, reference: dict[str, float] | None) -> BarChart:
    return bar_chart(lengths.bins, lengths.to_dict(), lengths.quantile(0.99), reference)


def _told(value: float | None, form: str) -> str:
    return "\u2013" if value is None else format(value, form)


def sorted_reasons(reasons: Counter[str]) -> dict[str, int]:
    """The reasons by how often they were given, most often first."""
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))

"""The report of a run: the verdicts kind by kind, and the figures of the accepted samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from vistune.generate.figures import Coverage, Diversity, Spending, by_frequency, distribution, quantile
from vistune.generate.judge import JudgedSample
from vistune.pages import render
from vistune.pages.charts import BAR_SIZE, bar_chart
from vistune.records import Conversation
from vistune.resources import load_yaml
from vistune.seeded import HashSample
from vistune.storage import atomic_text

_COUNTS = ("asked", "accepted", "filtered", "quarantined", "pending")
_LENGTHS = ("turns", "question_words", "words")
_EXAMPLES = 10


class KindReport:
    """The figures of one kind: accepted + filtered + quarantined + pending = asked.

    `asked` counts the planned samples, `pending` those without a reply yet; `reasons` counts each rejected sample
    once, under its first reason. Lengths, diversity and coverage are those of the accepted samples.
    """

    def __init__(self) -> None:
        self.asked = self.accepted = self.filtered = self.quarantined = self.pending = 0
        self.reasons: Counter[str] = Counter()
        self.lengths: dict[str, Counter[int]] = {name: Counter() for name in _LENGTHS}
        self.diversity, self.coverage, self.cost = Diversity(), Coverage(), Spending()

    def add(self, one: JudgedSample) -> None:
        self.count(one.verdict)
        self.cost.add(one.about)
        if one.verdict != "accepted":
            self.reasons[one.reasons[0]] += 1
            return
        self.lengths["turns"][len(one.turns) // 2] += 1
        for turn in one.turns:
            self.lengths["question_words" if turn.role == "user" else "words"][len(turn.text.split())] += 1
        self.diversity.add(one.id, one.turns)
        self.coverage.add(one.categories, (turn.text for turn in one.turns))

    def count(self, outcome: str) -> None:
        """Count a sample with this verdict, or one that is `pending`: without a reply yet."""
        self.asked += 1
        setattr(self, outcome, getattr(self, outcome) + 1)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON: `turns` are pairs a sample, `words` an answer's, `question_words` a question's."""
        share = self.coverage.share()
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "reasons": by_frequency(self.reasons),
            **{name: distribution(lengths) for name, lengths in self.lengths.items()},
            "diversity": self.diversity.to_dict(),
            "objects_named": None if share is None else round(share, 4),
            "cost": self.cost.to_dict(self.accepted),
        }


class Report:
    """The figures of a run, in bounded memory. `sent` is the number of requests sent, repeated ones included.

    `pairs` is the number of stage 1's caption pairs, `object_pairs` that of those whose captions are lists of boxed
    objects, `preferences` that of pairs of answers by the reason why one is false, `without_context` that of samples
    without a request because the image has none of the kind's parts.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = {name: KindReport() for name in kinds}
        self.pairs = self.object_pairs = self.without_context = self.sent = 0
        self.preferences: Counter[str] = Counter()
        self.examples: dict[str, HashSample[JudgedSample]] = {
            "accepted": HashSample(_EXAMPLES, "accepted"), "rejected": HashSample(_EXAMPLES, "rejected")
        }  # fmt: skip

    def add(self, one: JudgedSample) -> None:
        self.kinds[one.kind].add(one)
        self.examples["accepted" if one.verdict == "accepted" else "rejected"].add(one.id, one)

    def add_pair(self, pair: Conversation) -> Conversation:
        """Count a caption pair on its way into the file."""
        self.pairs += 1
        self.object_pairs += pair.kind == "objects"
        return pair

    def totals(self) -> dict[str, int]:
        """asked, accepted, filtered, quarantined and pending over all kinds."""
        return {name: sum(getattr(kind, name) for kind in self.kinds.values()) for name in _COUNTS}

    def why_empty(self) -> str:
        """Why there is no sample, no caption of the data and none to come; "" where there are some."""
        totals = self.totals()
        if self.pairs > self.object_pairs or totals["accepted"] or totals["pending"]:
            return ""
        reasons = Counter(reason for kind in self.kinds.values() for reason in kind.reasons.elements())
        why = [f"{self.without_context:,} samples need boxes or captions that their image lacks"]
        if reasons:
            why.append("rejected samples: " + ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common()))
        return "; ".join(why[not self.without_context :])

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON; `sent` is left out, so that a repeated run writes the same file."""
        return {
            **self.totals(),
            "kinds": {name: kind.to_dict() for name, kind in self.kinds.items()},
            "caption_pairs": self.pairs,
            "object_pairs": self.object_pairs,
            "preferences": by_frequency(self.preferences),
            "without_context": self.without_context,
        }

    def write(self, path: Path) -> None:
        """Write `to_dict` to a JSON file, and the page about it beside that; the same for the same replies."""
        figures = self.to_dict()
        with atomic_text(path) as file:
            file.write(json.dumps(figures, indent=2) + "\n")
        with atomic_text(path.with_suffix(".html")) as file:
            file.write(self._page(figures))

    def _page(self, figures: dict[str, Any]) -> str:
        references = load_references()
        charts = {
            name: {part: _chart(lengths, references, name, part) for part, lengths in kind.lengths.items()}
            for name, kind in self.kinds.items()
            if kind.accepted
        }
        examples = {name: sample.items() for name, sample in self.examples.items()}
        return render(
            "quality.html", report=figures, charts=charts, references=references, examples=examples,
            size=BAR_SIZE,
        )  # fmt: skip

    def table(self) -> Table:
        """The figures for the terminal; `pairs` and `words` are means per sample and per answer."""
        names = [name for name in _COUNTS if name != "pending" or self.totals()["pending"]]
        table = _table("instruction data", [*names, "pairs", "words"])
        rejected = {name: by_frequency(kind.reasons).items() for name, kind in self.kinds.items() if kind.reasons}
        table.caption = "\n".join(
            f"{name}: {', '.join(f'{code} {count:,}' for code, count in reasons)}" for name, reasons in rejected.items()
        )
        for name, kind in self.kinds.items():
            means = [distribution(kind.lengths[length])["mean"] for length in ("turns", "words")]
            table.add_row(name, *(f"{getattr(kind, key):,}" for key in names), *(f"{mean:.1f}" for mean in means))
        return table

    def quality_table(self) -> Table:
        """The figures of the accepted samples for the terminal, explained in docs/concepts/quality.md."""
        references = load_references()
        kinds = {name: kind.to_dict() for name, kind in self.kinds.items()}
        actions = any("actions" in kind["diversity"] for kind in kinds.values())
        columns = ["words", "dist-2 q", "a", *(["actions"] if actions else []), "named", "tokens", "USD"]
        table = _table("accepted samples", columns)
        table.caption = (
            f"words an answer, in brackets: {references['source']}"
            "\ndist-2: different pairs of words in questions, answers"
            + ("\nactions: a question's verb and noun" if actions else "")
            + "\nnamed: boxed objects that the sample mentions\ntokens, USD: output and cost for each"
        )
        for name, kind in kinds.items():
            reference = references["kinds"].get(name, {}).get("words")
            words = f"{kind['words']['mean']:.1f}" + (f" ({reference['mean']:.1f})" if reference else "")
            diversity, per = kind["diversity"], kind["cost"]["per_accepted"]
            row = [words, *(_figure(diversity[side]["distinct_2"], ".3f") for side in ("questions", "answers"))]
            row += [f"{diversity['different_actions']:,}"] if actions else []
            row += [_figure(kind["objects_named"], ".0%"), _figure(per["output"], ",.0f"), _figure(per["usd"], ".5f")]
            table.add_row(name, *row)
        return table


def _chart(lengths: Counter[int], references: dict[str, Any], kind: str, part: str) -> dict[str, Any]:
    reference = references["kinds"].get(kind, {}).get(part)
    return bar_chart(lengths, distribution(lengths), quantile(lengths, 0.99), reference)


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, caption_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column("kind", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _figure(value: float | None, form: str) -> str:
    return "\u2013" if value is None else format(value, form)


def load_references() -> dict[str, Any]:
    """Lengths of published data: `source` (a name) and `kinds`; see references.yaml."""
    return dict(load_yaml("vistune.generate", "references.yaml"))

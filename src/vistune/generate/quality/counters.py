"""Counts whose memory has a bound, whatever is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any


class Histogram:
    """Whole numbers from 0 up: the exact mean, least and most, and quantiles.

    Numbers above `LARGEST` count as that in the quantiles, so there are no more than so many bins.
    """

    LARGEST = 2_000

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.count = self.total = self.most = 0

    def add(self, value: int) -> None:
        """Count one number."""
        self.bins[min(value, self.LARGEST)] += 1
        self.count += 1
        self.total += value
        self.most = max(self.most, value)

    def quantile(self, share: float) -> int:
        """The least number that `share` of them do not exceed; 0 if there are none."""
        seen = 0
        for value in sorted(self.bins):
            seen += self.bins[value]
            if seen >= share * self.count:
                return value
        return 0

    def to_dict(self) -> dict[str, float]:
        """`mean`, `min`, `p10`, `p50`, `p90`, `max`; all 0 if there are none."""
        mean = round(self.total / self.count, 3) if self.count else 0.0
        quantiles = {f"p{round(100 * share)}": self.quantile(share) for share in (0.1, 0.5, 0.9)}
        return {"mean": mean, "min": min(self.bins, default=0), **quantiles, "max": self.most}


class Tally:
    """How often each thing comes; of things that first come after `MOST` others, only how many they are."""

    MOST = 5_000

    def __init__(self) -> None:
        self.counts: Counter[Hashable] = Counter()
        self.total = 0

    def add(self, thing: Hashable) -> None:
        """Count one."""
        self.total += 1
        if thing in self.counts or len(self.counts) < self.MOST:
            self.counts[thing] += 1

    def top(self, n: int) -> list[tuple[Any, int]]:
        """The `n` most frequent, ties in the order of the things."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], str(item[0])))[:n]

    def share(self, n: int = 1) -> float:
        """What part of all the `n` most frequent are."""
        return sum(count for _, count in self.top(n)) / self.total if self.total else 0.0

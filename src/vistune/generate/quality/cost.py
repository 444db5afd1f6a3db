"""What the accepted samples took: tokens, attempts, money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Cost:
    """The tokens, attempts and US dollars of all replies of a kind, rejected ones too: those had to be paid as well.

    The sum of costs is None as soon as one reply's is, for a sum of the others would be too low.
    """

    def __init__(self) -> None:
        self.replies = self.attempts = 0
        self.tokens = {"input": 0, "output": 0, "cached": 0}
        self.usd: float | None = 0.0

    def add(self, about: Mapping[str, Any]) -> None:
        """Count one reply by its provenance."""
        self.replies += 1
        self.attempts += about.get("attempts", 1)
        for name in self.tokens:
            self.tokens[name] += about["usage"].get(name, 0)
        self.usd = None if self.usd is None or about.get("cost") is None else self.usd + about["cost"]

    def to_dict(self, accepted: int) -> dict[str, Any]:
        """`tokens` and `usd` in all, and `per_accepted` sample (None without one)."""
        usd = None if self.usd is None else round(self.usd, 6)
        per: dict[str, float | None] = {
            name: round(count / accepted, 1) if accepted else None for name, count in self.tokens.items()
        }
        per["usd"] = round(self.usd / accepted, 8) if accepted and self.usd is not None else None
        return {"attempts": self.attempts, "tokens": self.tokens, "usd": usd, "per_accepted": per}

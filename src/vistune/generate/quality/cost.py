"""What the accepted samples took: tokens, attempts, money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOKENS = ("input", "output", "cached")


class Cost:
    """The tokens, attempts and US dollars of all replies of a kind, rejected ones too: those had to be paid as well.

    What is not known of one reply (the server does not count tokens, no price was given) makes the sum None, for a
    sum of the others would be too low.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.tokens: dict[str, int] | None = dict.fromkeys(_TOKENS, 0)
        self.usd: float | None = 0.0

    def add(self, about: Mapping[str, Any]) -> None:
        """Count one reply by its provenance; what nobody was asked for took nothing."""
        if not about["attempts"]:
            return
        self.attempts += about["attempts"]
        usage = about["usage"]
        if self.tokens is not None:
            known = {name: self.tokens[name] + usage.get(name, 0) for name in _TOKENS}
            self.tokens = known if {"input", "output"} <= usage.keys() else None
        self.usd = None if self.usd is None or about["cost"] is None else self.usd + about["cost"]

    def to_dict(self, accepted: int) -> dict[str, Any]:
        """`attempts`, `tokens` and `usd` in all, and `per_accepted` sample."""
        usd = None if self.usd is None else round(self.usd, 6)
        per: dict[str, float | None] = dict.fromkeys((*_TOKENS, "usd"))
        if accepted and self.tokens is not None:
            per |= {name: round(count / accepted, 1) for name, count in self.tokens.items()}
        if accepted and self.usd is not None:
            per["usd"] = round(self.usd / accepted, 8)
        return {"attempts": self.attempts, "tokens": self.tokens, "usd": usd, "per_accepted": per}

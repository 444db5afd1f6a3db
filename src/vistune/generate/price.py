"""What a teacher costs, in whole picodollars (1e-12 USD), for sums of fractions are not exact."""

from __future__ import annotations

from dataclasses import dataclass

from vistune.errors import VistuneError

PICO = 10**12


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount: picodollars and tokens."""

    pico: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.pico + other.pico, self.tokens + other.tokens)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.pico - other.pico, self.tokens - other.tokens)

    @property
    def usd(self) -> float:
        """The money in USD."""
        return self.pico / PICO

    def __str__(self) -> str:
        money = f"{self.usd:.3g} USD, " if self.pico else ""
        return f"{money}{self.tokens:,} tokens"


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Price:
    """What a teacher costs: USD per million tokens, of input, of output, and of input that was cached."""

    input: float
    output: float
    cached: float

    @classmethod
    def parse(cls, text: str) -> Price:
        """The price from `IN:OUT` or `IN:OUT:CACHED`. Raises VistuneError."""
        try:
            values = [float(part) for part in text.split(":")]
            if len(values) not in (2, 3) or not all(0 <= value < 10**6 for value in values):
                raise ValueError
        except ValueError:
            fix = "give USD per million tokens as INPUT:OUTPUT or INPUT:OUTPUT:CACHED, e.g. 0.15:0.60"
            raise VistuneError(f"'{text}' is no price", fix=fix) from None
        return cls(values[0], values[1], values[2] if len(values) == 3 else values[0])

    def of(self, input_: int, output: int, cached: int = 0) -> int:
        """Picodollars for these numbers of tokens; `cached` is a part of the input."""
        plain = max(0, input_ - cached)
        return (
            round(self.input * 10**6) * plain
            + round(self.cached * 10**6) * cached
            + round(self.output * 10**6) * output
        )

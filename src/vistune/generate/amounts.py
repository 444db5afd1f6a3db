"""How many images a kind is written about: a share of them, all, or a number."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from vistune.errors import VistuneError, did_you_mean

_FORM = re.compile(r"(\d+(?:\.\d+)?)([km%]?)", re.IGNORECASE)
_TIMES = {"k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, slots=True)
class Quota:
    """So many images, of those that have what the kind shows."""

    images: int


Amount = float | Quota
"""A share of the images (0 to 1), or a number of them."""


def parse_amounts(text: str, known: Collection[str]) -> dict[str, Amount]:
    """What `conversation=58k,detail=0.3,reasoning=all` says; a name alone means all.

    A whole number, also with k or m, is a number of images; one with a point or % a share. Raises VistuneError.
    """
    amounts: dict[str, Amount] = {}
    for item in text.split(","):
        name, _, amount = map(str.strip, item.partition("="))
        if not name:
            fix = f"leave --kinds out, or name some of: {', '.join(sorted(known))}"
            raise VistuneError("a kind's name is missing", where=f"--kinds '{text}'", fix=fix)
        if name not in known:
            raise VistuneError(f"unknown kind '{name}'", where=f"--kinds {text}", fix=did_you_mean(name, known))
        if name in amounts:
            raise VistuneError(f"the kind '{name}' is there twice", where=f"--kinds {text}")
        amounts[name] = _parse(amount, f"--kinds {text}") if amount else 1.0
    return amounts


def check_amounts(amounts: Mapping[str, Amount]) -> None:
    """Raises VistuneError for a share that is none and for a quota of nothing."""
    for name, amount in amounts.items():
        if isinstance(amount, Quota):
            if amount.images < 1:
                raise VistuneError(f"the quota {amount.images} is no number of images", where=f"kind '{name}'")
        elif not 0 <= amount <= 1:
            fix = f"a number of images is Quota({amount:.0f})" if amount > 1 and amount % 1 == 0 else ""
            raise VistuneError(f"the share {amount} is not within 0 and 1", where=f"kind '{name}'", fix=fix)


class Lowest:
    """The `count`-th lowest of any number of values, in memory of `count` of them."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self._values = array("d")

    def add(self, value: float) -> None:
        """Take one more value into account."""
        self.seen += 1
        self._values.append(value)
        if len(self._values) >= 2 * self.count + 1_000:
            self._cut()

    def bound(self) -> float:
        """The number that exactly `count` of the values are less than."""
        self._cut()
        return math.nextafter(max(self._values), 2.0)

    def _cut(self) -> None:
        if len(self._values) > self.count:
            lowest = np.partition(np.frombuffer(self._values), self.count - 1)[: self.count]
            self._values = array("d", lowest.tobytes())


def _parse(text: str, where: str) -> Amount:
    if text.lower() == "all":
        return 1.0
    found = _FORM.fullmatch(text)
    if found is None:
        fix = "all, a number of images (500, 58k), or a share of them (0.3, 30%)"
        raise VistuneError(f"'{text}' is no amount", where=where, fix=fix)
    number, unit = float(found[1]), found[2].lower()
    if not number:
        raise VistuneError(f"'{text}' is no amount: nothing is asked for", where=where, fix="leave the kind out")
    if unit != "%" and (unit or "." not in text):
        return Quota(round(number * _TIMES.get(unit, 1)))
    share = number / 100 if unit else number
    if share > 1:
        fix = "a share is up to 1.0 or 100%; a number of images is written without point and % (500, 58k)"
        raise VistuneError(f"'{text}' is more than all images", where=where, fix=fix)
    return share

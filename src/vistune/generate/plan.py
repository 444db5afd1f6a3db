"""Which image gets a sample of which kind, and with which request."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vistune.errors import DataError, VistuneError, did_you_mean
from vistune.formats.conversations import image_path
from vistune.generate.injection import hostile_context
from vistune.generate.kinds import Kind, Prompts
from vistune.llm.client import Request
from vistune.llm.images import ImageFile
from vistune.records import ImageRecord
from vistune.seeded import bits, fraction

_EXHAUSTIVE = 300
"""With more categories (LVIS has 1,203) the boxes of an image never cover all of its objects."""
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([km%]?)", re.IGNORECASE)
_UNITS = {"k": 1_000, "m": 1_000_000}


Amount = float | int
"""A share of the images (a float, 0 to 1), or a number of those that have what the kind shows (an int)."""


def parse_amounts(kinds: Mapping[str, str], known: Collection[str]) -> dict[str, Amount]:
    """The amounts of a recipe's `kinds`: `all`, a share (0.3, 30%) or a number of images (500, 58k, 1.5m).

    Raises VistuneError for an unknown kind and for what is not an amount.
    """
    for name in kinds:
        if name not in known:
            raise VistuneError(f"unknown kind '{name}'", where="--kinds", fix=did_you_mean(name, known))
    if not kinds:
        raise VistuneError("there are no kinds", where="--kinds", fix=f"name some of: {', '.join(sorted(known))}")
    return {name: _parse_amount(text, f"--kinds {name}={text}") for name, text in kinds.items()}


def _parse_amount(text: str, where: str) -> Amount:
    if text.lower() == "all":
        return 1.0
    found = _AMOUNT.fullmatch(text)
    if found is None:
        fix = "all, a number of images (500, 58k), or a share of them (0.3, 30%)"
        raise VistuneError(f"'{text}' is not an amount", where=where, fix=fix)
    number, unit = float(found[1]), found[2].lower()
    if not number:
        raise VistuneError(f"'{text}' selects no image", where=where, fix="leave the kind out")
    if unit != "%" and (unit or "." not in text):
        return round(number * _UNITS.get(unit, 1))
    share = number / 100 if unit else number
    if share > 1:
        fix = "a share is at most 1.0 or 100%; write a number of images without point and % (500, 58k)"
        raise VistuneError(f"'{text}' is more than all images", where=where, fix=fix)
    return share


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts of the images, from 1; the part of an image depends on its id alone."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard `I/N`. Raises VistuneError."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise VistuneError(f"'{text}' is not a shard", where="--shard", fix="I/N with I from 1 to N, e.g. 2/7")
        return cls(int(found[1]), int(found[2]))

    def has(self, record: ImageRecord) -> bool:
        return bits(record.id, "shard") % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class First:
    """The first `count` records, each time they are iterated."""

    records: Iterable[ImageRecord]
    count: int

    def __iter__(self) -> Iterator[ImageRecord]:
        return islice(iter(self.records), self.count)


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """An image and a kind. `request` is None where the image has nothing that the kind shows, or is quarantined.

    `reasons` are the codes of a quarantine that needs no request.
    """

    record: ImageRecord
    kind: Kind
    request: Request | None
    reasons: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.record.id}-{self.kind.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All samples of a run, image by image; each iteration gives the same ones.

    An image gets a sample of a kind if its hash with the seed and the kind falls into the kind's share, so a larger
    share or quota, or another kind, leaves earlier choices as they were.
    """

    records: Iterable[ImageRecord]
    shares: Sequence[tuple[Kind, float]]
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields that all requests have in common: max_tokens, temperature …"""
    total: int = 0
    """Number of samples; of a shard, about."""
    vocabulary: tuple[str, ...] = ()
    """The categories of all boxes; empty where not all of their objects have boxes (LVIS, more than 300 categories)."""
    shard: Shard | None = None
    show: Callable[[ImageRecord], ImageFile] | None = None
    """The image of a record, for a teacher that sees it."""

    def __iter__(self) -> Iterator[PlannedSample]:
        for record in self.records:
            if self.shard is None or self.shard.has(record):
                for kind, share in self.shares:
                    if _chosen(self.seed, record, kind, share):
                        yield self._sample(record, kind)

    def requests(self) -> Iterator[Request]:
        """The requests of all samples that need one."""
        return (sample.request for sample in self if sample.request)

    def structured(self) -> Plan:
        """The same plan, with replies requested as JSON."""
        return replace(self, shares=[(replace(kind, structured=True), share) for kind, share in self.shares])

    def pilot(self, count: int) -> Iterator[PlannedSample]:
        """`count` of the samples that need a request, drawn by hash."""
        bound = _bound(array("d", (self._pilot_draw(sample) for sample in self if sample.request)), count)
        return (sample for sample in self if sample.request and self._pilot_draw(sample) < bound)

    def _pilot_draw(self, sample: PlannedSample) -> float:
        return fraction(self.seed, sample.record.id, sample.kind.name, "pilot")

    def _sample(self, record: ImageRecord, kind: Kind) -> PlannedSample:
        shown = kind.of(record)
        if shown is None:
            return PlannedSample(record, kind, None)
        if reasons := hostile_context(record, shown.context):
            return PlannedSample(record, shown, None, reasons)
        request = shown.request(record, self.seed)
        images = (self.show(record),) if self.show else ()
        return PlannedSample(record, shown, replace(request, vocabulary=self.vocabulary, images=images, **self.options))


def make_plan(
    records: Iterable[ImageRecord], kinds: Mapping[str, Amount], seed: int, *, prompts: Prompts | None = None,
    needs: Collection[str] = (), options: Mapping[str, Any] | None = None, images: Path | None = None,
    shard: Shard | None = None, show: Callable[[ImageRecord], ImageFile] | None = None,
) -> Plan:  # fmt: skip
    """The plan for `kinds` (each with its amount of images); every kind also shows the parts that the teacher `needs`.

    A quota counts all images, whatever the shard. Raises VistuneError for an unknown kind, a quota larger than the
    number of images that have what the kind shows, two records with one id, and an image that is not below `images`.
    """
    prompts = prompts or Prompts()
    _check_names(kinds)
    loaded = [prompts.load(name, needs) for name in kinds]
    quotas = {name: amount for name, amount in kinds.items() if isinstance(amount, int)}
    shares = {name: amount for name, amount in kinds.items() if name not in quotas}
    draws: dict[str, array[float]] = {name: array("d") for name in quotas}
    ids, total, categories = array("Q"), 0, set[str]()
    for record in records:
        ids.append(bits(record.id))
        image_path(record, images)
        if len(categories) <= _EXHAUSTIVE:
            categories.update(box.category for box in record.boxes)
        for kind in loaded:
            if kind.name in quotas and kind.of(record) is not None:
                draws[kind.name].append(_draw(seed, record, kind))
            elif kind.name in shares:
                total += _chosen(seed, record, kind, shares[kind.name]) and kind.of(record) is not None
    _check_ids(ids, records)
    shares |= {k.name: _quota_share(k, draws[k.name], quotas[k.name]) for k in loaded if k.name in quotas}
    total += sum(quotas.values())
    vocabulary = tuple(sorted(categories)) if len(categories) <= _EXHAUSTIVE else ()
    total = total // shard.count if shard else total
    chosen = [(kind, shares[kind.name]) for kind in loaded]
    return Plan(records, chosen, seed, options or {}, total, vocabulary, shard, show)


def _bound(draws: array[float], count: int) -> float:
    """A number that exactly `count` of the draws are below, or all if they are fewer."""
    lowest = np.sort(draws)[:count]
    return math.nextafter(lowest[-1], 2.0) if len(lowest) else 0.0


def _draw(seed: int, record: ImageRecord, kind: Kind) -> float:
    """The image's hash that is compared with the kind's share."""
    return fraction(seed, record.id, kind.name, "share")


def _chosen(seed: int, record: ImageRecord, kind: Kind, share: float) -> bool:
    return share >= 1 or _draw(seed, record, kind) < share


def _quota_share(kind: Kind, draws: array[float], quota: int) -> float:
    if len(draws) < quota:
        what = f"{quota:,} images are requested, but only {len(draws):,} have captions or boxes"
        raise VistuneError(what, where=f"kind '{kind.name}'", fix=f"use {kind.name}=all, or give more images")
    return _bound(draws, quota)


def _check_names(kinds: Collection[str]) -> None:
    """A sample's id is the record's and the kind's name joined by `-`, which must be readable in one way only."""
    for one in kinds:
        if other := next((other for other in kinds if one.endswith(f"-{other}")), None):
            what = f"beside a kind '{other}', samples of different images could get the same id"
            raise VistuneError(what, where=f"kind '{one}'", fix="rename the folder of one of them")


def _check_ids(ids: array[int], records: Iterable[ImageRecord]) -> None:
    """Raises DataError for the first record whose id another one has; `ids` are the hashes of all."""
    first: dict[str, ImageRecord] = {}
    for record in records if len(np.unique(ids)) < len(ids) else ():
        if other := first.get(record.id):
            if record.image == other.image:
                fix = "rows of one image must follow each other: sort the file by image, or give each row its own id"
            else:
                fix = f"give each its own id in a column 'id', or rename one of {other.image} and {record.image}"
            what = f"a second record has the id '{record.id}'" + (f"; the first is {other.origin}" * bool(other.origin))
            raise DataError(what, where=record.origin or str(record.image), fix=fix)
        first[record.id] = record

"""Which image is asked about in which kind, and with which request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vistune.errors import VistuneError, did_you_mean
from vistune.formats.conversations import image_path
from vistune.generate.amounts import Amount, Lowest, Quota, check_amounts
from vistune.generate.ids import Ids
from vistune.generate.injection import hostile_context
from vistune.generate.kinds import Kind, Prompts
from vistune.generate.shard import Part, Shard
from vistune.llm.client import Request
from vistune.records import ImageRecord
from vistune.seeded import fraction

_EXHAUSTIVE = 300
"""Where there are more categories (LVIS has 1,203), an image's boxes are never all of its objects."""


@dataclass(frozen=True, slots=True)
class First:
    """The first `count` of the records, each time they are gone through."""

    records: Iterable[ImageRecord]
    count: int

    def __iter__(self) -> Iterator[ImageRecord]:
        return islice(iter(self.records), self.count)


@dataclass(frozen=True, slots=True)
class Planned:
    """One sample to be. `request` is None where the image has nothing that the kind shows, or is not to be asked about.

    `reasons` are the codes why it is not: it is quarantined without a call.
    """

    record: ImageRecord
    kind: Kind
    request: Request | None
    key: str = ""
    reasons: tuple[str, ...] = ()
    place: int = 0
    """Where it stands in the plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All samples to be, image by image; going through it again gives the same ones.

    An image is asked about in a kind if its hash with the seed and the kind falls into the kind's share, so a
    larger share or quota, or another kind, leaves the choices made before as they were.
    """

    records: Iterable[ImageRecord]
    shares: Sequence[tuple[Kind, float]]
    seed: int
    teacher: str
    max_tokens: int | None = None
    """The longest reply that is asked for."""
    total: int = 0
    """How many samples there are to be, those that nobody need be asked about included; of a shard's about."""
    vocabulary: tuple[str, ...] = ()
    """The categories of the boxes; none where they are too many to be boxed wherever they are."""

    def __iter__(self) -> Iterator[Planned]:
        for place, (record, kind) in enumerate(self.chosen()):
            if reasons := hostile_context(record, kind.context):
                yield Planned(record, kind, None, "", reasons, place)
                continue
            request = kind.request(record, self.seed, self.max_tokens)
            if request:
                request = replace(request, vocabulary=self.vocabulary)
            yield Planned(record, kind, request, request.key(self.teacher) if request else "", (), place)

    def structured(self) -> Plan:
        """The same plan with replies wanted as JSON."""
        return replace(self, shares=[(replace(kind, structured=True), share) for kind, share in self.shares])

    def chosen(self) -> Iterator[tuple[ImageRecord, Kind]]:
        """The images and the kinds they are asked about in."""
        for record in self.records:
            for kind, share in self.shares:
                if _chosen(self.seed, record, kind, share):
                    yield record, kind

    def part(self, shard: Shard) -> Plan:
        """The samples about a shard's images."""
        return replace(self, records=Part(self.records, shard), total=self.total // shard.count)


def make_plan(
    records: Iterable[ImageRecord],
    kinds: Mapping[str, Amount],
    seed: int,
    teacher: str,
    context: Mapping[str, Collection[str]] | None = None,
    prompts: Prompts | None = None,
    max_tokens: int | None = None,
    images: Path | None = None,
) -> Plan:
    """The plan for `kinds` (each with its amount of images); `context` overrides what a kind shows.

    Raises VistuneError for an unknown kind or part, an amount that is none or more than there is, two records of one
    id, and an image that is not below the folder `images`.
    """
    context, prompts = context or {}, prompts or Prompts()
    check_amounts(kinds)
    _check_names(kinds)
    for name in context:
        if name not in kinds:
            raise VistuneError(f"no kind '{name}' is asked for", where="context", fix=did_you_mean(name, kinds))
    loaded = [prompts.load(name, context.get(name)) for name in kinds]
    quotas = [(kind, Lowest(amount.images)) for kind in loaded if isinstance(amount := kinds[kind.name], Quota)]
    given = [(kind, amount) for kind in loaded if not isinstance(amount := kinds[kind.name], Quota)]
    ids, total, categories = Ids(), sum(lowest.count for _, lowest in quotas), set[str]()
    for record in records:
        ids.add(record.id)
        image_path(record, images)
        if len(categories) <= _EXHAUSTIVE:
            categories.update(box.category for box in record.boxes)
        for kind, share in given:
            total += _chosen(seed, record, kind, share) and kind.shows(record)
        for kind, lowest in quotas:
            if kind.shows(record):
                lowest.add(_draw(seed, record, kind))
    ids.check(records)
    shares = {kind.name: share for kind, share in given} | {kind.name: _share(kind, lowest) for kind, lowest in quotas}
    vocabulary = tuple(sorted(categories)) if len(categories) <= _EXHAUSTIVE else ()
    return Plan(records, [(kind, shares[kind.name]) for kind in loaded], seed, teacher, max_tokens, total, vocabulary)


def _check_names(kinds: Collection[str]) -> None:
    """A sample's id is the record's and the kind's name, joined by `-`; it has to be read in one way only."""
    for one in kinds:
        if other := next((other for other in kinds if one.endswith(f"-{other}")), None):
            what = f"with a kind '{other}' beside it, samples of different images could get the same id"
            raise VistuneError(what, where=f"kind '{one}'", fix="rename the folder of one of them")


def _draw(seed: int, record: ImageRecord, kind: Kind) -> float:
    """What is compared with the kind's share."""
    return fraction(seed, record.id, kind.name, "share")


def _chosen(seed: int, record: ImageRecord, kind: Kind, share: float) -> bool:
    return share >= 1 or _draw(seed, record, kind) < share


def _share(kind: Kind, lowest: Lowest) -> float:
    """The share that takes exactly the quota of the images that have what the kind shows."""
    if lowest.seen < lowest.count:
        fix = f"ask for {kind.name}=all, or give more images"
        what = f"{lowest.count:,} images are asked for, but only {lowest.seen:,} have {' or '.join(kind.context)}"
        raise VistuneError(what, where=f"kind '{kind.name}'", fix=fix)
    return lowest.bound()

"""Which image is asked about in which kind, and with which request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vistune.clients.base import Request
from vistune.errors import DataError, VistuneError, did_you_mean
from vistune.generate.draw import fraction
from vistune.generate.kinds import Kind, load_kind
from vistune.records import ImageRecord


@dataclass(frozen=True, slots=True)
class Planned:
    """One sample to be. `request` is None where the image has nothing that the kind shows."""

    record: ImageRecord
    kind: Kind
    request: Request | None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All samples to be, image by image; going through it again gives the same ones.

    An image is asked about in a kind if its hash with the seed and the kind falls into the kind's share, so a
    larger share, more images or another kind leave the choices made before as they were.
    """

    records: Iterable[ImageRecord]
    shares: Sequence[tuple[Kind, float]]
    seed: int
    teacher: str

    def __iter__(self) -> Iterator[Planned]:
        for record, kind in self.chosen():
            request = kind.request(record, self.seed)
            yield Planned(record, kind, request, request.key(self.teacher) if request else "")

    def __len__(self) -> int:
        return sum(1 for _ in self.chosen())

    def chosen(self) -> Iterator[tuple[ImageRecord, Kind]]:
        """The images and the kinds they are asked about in."""
        for record in self.records:
            for kind, share in self.shares:
                if fraction(self.seed, record.id, kind.name, "share") < share:
                    yield record, kind


def make_plan(
    records: Iterable[ImageRecord],
    kinds: Mapping[str, float],
    seed: int,
    teacher: str,
    context: Mapping[str, Collection[str]] | None = None,
) -> Plan:
    """The plan for `kinds` (each with its share of the images, 0 to 1); `context` overrides what a kind shows.

    Raises VistuneError for an unknown kind or part, a share out of range, and two records of one id.
    """
    context = context or {}
    for name, share in kinds.items():
        if not 0 <= share <= 1:
            raise VistuneError(f"the share {share} is not within 0 and 1", where=f"kind '{name}'")
    for name in context:
        if name not in kinds:
            raise VistuneError(f"no kind '{name}' is asked for", where="context", fix=did_you_mean(name, kinds))
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise DataError(f"a second record has the id '{record.id}'", where=record.origin or str(record.image))
        seen.add(record.id)
    return Plan(records, [(load_kind(name, context.get(name)), share) for name, share in kinds.items()], seed, teacher)

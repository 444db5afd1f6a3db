"""The attempts at one sample: a reply that cannot be read is asked for again, with another seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from vistune.generate.kinds import Kind
from vistune.generate.plan import Planned
from vistune.generate.replies import ParsedReply, ReplyError, parse_reply
from vistune.generate.store import Store, Stored
from vistune.llm.client import Reply, Request
from vistune.seeded import bits


@dataclass(frozen=True, slots=True)
class Attempt:
    """The `number`-th request for a sample; its seed, and so its key, depends on the number alone."""

    number: int
    request: Request
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An attempt that has a reply."""

    attempt: Attempt
    stored: Stored
    read: ParsedReply | ReplyError


def attempt(planned: Planned, teacher: str, number: int) -> Attempt:
    """The `number`-th attempt, from 1, at a sample that has a request."""
    assert planned.request is not None
    if number == 1:
        return Attempt(1, planned.request, planned.key)
    request = replace(planned.request, seed=bits(planned.request.seed, "attempt", number) >> 33)
    return Attempt(number, request, request.key(teacher))


def answers(planned: Planned, teacher: str, store: Store) -> Iterator[Answer]:
    """The replies there are for a sample, in the order of the attempts."""
    for number in count(1):
        one = attempt(planned, teacher, number)
        stored = store.get(one.key)
        if stored is None:
            return
        yield Answer(one, stored, read(planned.kind, stored.reply))


def chosen_answer(planned: Planned, teacher: str, store: Store) -> Answer | None:
    """The first reply that can be read, else the last one; None if there is none."""
    found = None
    for found in answers(planned, teacher, store):
        if found.stored.settled or isinstance(found.read, ParsedReply):  # after a settled one nobody was asked
            break
    return found


def read(kind: Kind, reply: Reply) -> ParsedReply | ReplyError:
    """What the reply says, if it has, or can be repaired to, the form that was asked for; else why not."""
    try:
        return parse_reply(reply.text, bool(kind.questions), reply.finish)
    except ReplyError as error:
        return error

"""What is asked of a teacher or judge, what comes back, and the protocol between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vistune.records import Role


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt after the system's: a few-shot example's side, or the query."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt: the system's text, few-shot pairs of messages, and last the query.

    A language model is sent `system`, `messages` and `seed`. `kind` tells a teacher by rule what is wanted;
    `record_id` is for logs and recorded replies only and no part of the key.
    """

    system: str
    messages: tuple[Message, ...]
    kind: str = ""
    seed: int = 0
    record_id: str = ""

    @property
    def query(self) -> str:
        """The last message's text: the context (`vistune.context`) of the image that is asked about."""
        return self.messages[-1].text

    def key(self, model: str) -> str:
        """SHA-256 of the request as `model` is asked it: the same for every machine, folder and version."""
        canonical = [model, self.kind, self.seed, self.system, [(one.role, one.text) for one in self.messages]]
        return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """The raw reply. `model` is the name that the answering side gave; `usage` counts tokens where it does."""

    text: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)


class Client(Protocol):
    """A teacher or judge. `name` says who is asked (e.g. the model's name) and is part of every request's key."""

    @property
    def name(self) -> str:
        """Who is asked."""
        ...

    @property
    def context(self) -> Mapping[str, Collection[str]]:
        """The parts of an image's context to show for a kind, in place of the kind's own; usually none."""
        ...

    async def complete(self, request: Request) -> Reply:
        """The reply to `request`; a ClientError if there is none."""
        ...

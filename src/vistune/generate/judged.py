"""One reply and what became of it, as it passes from judging to the files and the report."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from vistune.records import Conversation, Turn

Verdict = Literal["accepted", "filtered", "quarantined"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample with its verdict. `text` is the raw reply.

    `about` is its line of the provenance file (docs/reference/generation-files.md), `turns` are empty where the reply
    could not be parsed, `categories` are those of the image's boxes, each once.
    """

    about: Mapping[str, Any]
    turns: tuple[Turn, ...]
    text: str
    categories: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The sample's id, unique in the run."""
        return str(self.about["id"])

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return str(self.about["kind"])

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        verdict: Verdict = self.about["verdict"]
        return verdict

    @property
    def reasons(self) -> Sequence[str]:
        """Why it is not accepted: reason codes, the first is the one it counts under."""
        reasons: Sequence[str] = self.about["reasons"]
        return reasons

    def rejected(self, reason: str) -> Judged:
        """The accepted sample, filtered for `reason` after all."""
        about = {**self.about, "verdict": "filtered", "reasons": [reason]}
        return Judged(about, self.turns, self.text, self.categories)

    def conversation(self, turns: tuple[Turn, ...]) -> Conversation:
        """The training sample, with `turns` that show the image."""
        return Conversation(self.id, turns, (str(self.about["image"]),), self.kind)

    def dump(self) -> bytes:
        """All of it, for this process to read again."""
        turns = [(turn.role, turn.text) for turn in self.turns]
        return pickle.dumps((self.about, turns, self.text, self.categories), pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def load(file: IO[bytes]) -> Judged:
        """The inverse of `dump`: the sample at the file's position."""
        about, turns, text, categories = pickle.load(file)
        return Judged(about, tuple(Turn(role, text) for role, text in turns), text, categories)

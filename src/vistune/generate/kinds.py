"""The kinds of instruction data, each a folder of prompt files (see CONTRIBUTING for adding one).

prompts/<kind>/kind.yaml              what the teacher sees, who asks, and the bands a sample must keep to
prompts/<kind>/system.txt             the system prompt; {context} becomes what prompts/parts/ says of each part
prompts/<kind>/questions.txt          with `question: list`, the questions, one a line
prompts/<kind>/fewshot/N.context.txt  an example's captions and boxes, of which the teacher sees its parts
prompts/<kind>/fewshot/N.reply.txt    the reply wanted
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vistune.clients.base import Message, Request
from vistune.context import PARTS, Part, format_context, parse_context
from vistune.errors import VistuneError, did_you_mean
from vistune.generate.draw import bits
from vistune.records import ImageRecord

Band = Annotated[tuple[int, int], Field(description="the least and the most allowed")]


class KindSettings(BaseModel):
    """What kind.yaml says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    context: tuple[Part, ...]
    question: Literal["ask", "list"]
    turns: Band
    words: Band


@dataclass(frozen=True)
class Kind:
    """One kind of instruction data: how it is asked for and what its samples must be like.

    `examples` are pairs of a full context (captions and boxes) and the reply to it; `questions` is empty
    where the teacher asks, too. `turns` bounds the question-answer pairs, `words` the words of an answer.
    """

    name: str
    context: tuple[Part, ...]
    system_text: str
    examples: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    turns: tuple[int, int]
    words: tuple[int, int]

    @cached_property
    def system(self) -> str:
        """The system prompt, with what it says about the parts of the context that are shown."""
        return self.system_text.replace(
            "{context}", "\n".join(_text(_prompts() / "parts", part) for part in self.context)
        )

    @cached_property
    def fewshot(self) -> tuple[Message, ...]:
        """The examples as messages, each context cut to the parts that are shown."""
        pairs = ((self._shown(context), reply) for context, reply in self.examples)
        return tuple(m for context, reply in pairs for m in (Message("user", context), Message("assistant", reply)))

    @cached_property
    def prompt_hash(self) -> str:
        """SHA-256 of all that the teacher is told and asked, but for the image: the version of the prompt."""
        told = (self.system, *(message.text for message in self.fewshot), *self.questions)
        return hashlib.sha256("\x1f".join(told).encode()).hexdigest()

    def request(self, record: ImageRecord, seed: int) -> Request | None:
        """The request for `record`; None if it has nothing of what this kind shows."""
        context = format_context(record, self.context)
        if not context:
            return None
        messages = (*self.fewshot, Message("user", context))
        return Request(self.system, messages, self.name, bits(seed, record.id, self.name) >> 33, record.id)

    def _shown(self, context: str) -> str:
        captions, boxes = parse_context(context)
        return format_context(ImageRecord("", Path(), 1, 1, captions, boxes), self.context)


def kind_names() -> list[str]:
    """The names of all kinds, sorted."""
    return sorted(folder.name for folder in _prompts().iterdir() if (folder / "kind.yaml").is_file())


def load_kind(name: str, context: Collection[str] | None = None) -> Kind:
    """The kind of that name; `context` replaces the parts of the context that its folder says it shows.

    Raises VistuneError for an unknown kind or part.
    """
    if name not in kind_names():
        raise VistuneError(f"unknown kind '{name}'", fix=did_you_mean(name, kind_names()))
    kind = _read(_prompts() / name)
    if context is None:
        return kind
    for part in context:
        if part not in PARTS:
            raise VistuneError(
                f"unknown part '{part}' of the context", where=f"kind '{name}'", fix=did_you_mean(part, PARTS)
            )
    return replace(kind, context=tuple(part for part in PARTS if part in context))


def brief_questions() -> tuple[str, ...]:
    """The wordings that ask for a brief description, for stage 1's caption pairs."""
    return tuple(_text(_prompts(), "brief").splitlines())


def _prompts() -> Traversable:
    return resources.files("vistune.generate") / "prompts"


def _text(folder: Traversable, name: str) -> str:
    return (folder / f"{name}.txt").read_text("utf-8").strip()


def _read(folder: Traversable) -> Kind:
    settings = KindSettings.model_validate(yaml.safe_load((folder / "kind.yaml").read_text("utf-8")))
    stems = sorted(
        file.name.removesuffix(".context.txt") for file in (folder / "fewshot").iterdir() if ".context." in file.name
    )
    return Kind(
        name=folder.name,
        context=settings.context,
        system_text=_text(folder, "system"),
        examples=tuple(
            (_text(folder / "fewshot", f"{n}.context"), _text(folder / "fewshot", f"{n}.reply")) for n in stems
        ),
        questions=tuple(_text(folder, "questions").splitlines()) if settings.question == "list" else (),
        turns=settings.turns,
        words=settings.words,
    )

"""The kinds of instruction data: what the teacher is told, shown and asked (docs/kinds.md has how to add one)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError, did_you_mean
from vistune.generate.kind_files import KindFolder, read_text
from vistune.generate.languages import ENGLISH, UNSPACED, language_code, language_name, prompts
from vistune.generate.replies import parse_reply, to_json
from vistune.llm.client import Message, Request
from vistune.records import ImageRecord
from vistune.scene.context import PARTS, Part, format_context, has_context, parse_context
from vistune.seeded import bits


@dataclass(frozen=True)
class Kind:
    """One kind of instruction data: how it is asked for and what its samples must be like.

    `examples` are pairs of a full context (captions and boxes) and the reply to it; `questions` is empty
    where the teacher asks, too. `turns` bounds the question-answer pairs, `words` the words of an answer.
    With `structured` replies are wanted as JSON of `schema`, else as text between lines of `===`.
    """

    name: str
    context: tuple[Part, ...]
    system_text: str
    examples: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    turns: tuple[int, int]
    words: tuple[int, int]
    language: str = ENGLISH
    structured: bool = False

    @cached_property
    def system(self) -> str:
        """The system prompt, with what it says about the shown parts of the context, the format and the language."""
        parts = "\n".join(read_text(prompts() / "parts", part) for part in self.context)
        wire = read_text(prompts() / "formats", f"{self._form}.{'json' if self.structured else 'text'}")
        text = self.system_text.replace("{context}", parts).replace("{format}", wire).strip()
        if self.language == ENGLISH:
            return text
        told = read_text(prompts(), "language").replace("{language}", language_name(self.language))
        return f"{text}\n\n{told}"

    @cached_property
    def fewshot(self) -> tuple[Message, ...]:
        """The examples as messages, each context cut to the parts that are shown, each reply in the format wanted."""
        pairs = ((self._shown(context), self._wire(reply)) for context, reply in self.examples)
        return tuple(m for context, reply in pairs for m in (Message("user", context), Message("assistant", reply)))

    @cached_property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of the replies; None where they are text."""
        if not self.structured:
            return None
        name = "answer" if self.questions else "dialogue"
        return dict(json.loads((prompts() / "formats" / f"{name}.schema.json").read_text("utf-8")))

    @cached_property
    def prompt_hash(self) -> str:
        """SHA-256 of all that the teacher is told and asked, but for the image: the version of the prompt."""
        told = (self.system, *(message.text for message in self.fewshot), *self.questions)
        return hashlib.sha256("\x1f".join(told).encode()).hexdigest()

    def shows(self, record: ImageRecord) -> bool:
        """Whether `record` has something of what this kind shows."""
        return has_context(record, self.context)

    def request(self, record: ImageRecord, seed: int, max_tokens: int | None = None) -> Request | None:
        """The request for `record`; None if it has nothing of what this kind shows."""
        context = format_context(record, self.context)
        if not context:
            return None
        messages = (*self.fewshot, Message("user", context))
        number = bits(seed, record.id, self.name) >> 33
        return Request(self.system, messages, self.name, number, record.id, max_tokens, schema=self.schema)

    @property
    def _form(self) -> str:
        if self.questions:
            return "answer"
        return "pair" if self.turns[1] == 1 else "dialogue"

    def _shown(self, context: str) -> str:
        captions, boxes = parse_context(context)
        return format_context(ImageRecord("", Path(), 0, 0, captions, boxes), self.context)

    def _wire(self, reply: str) -> str:
        return to_json(parse_reply(reply, bool(self.questions))) if self.structured else reply


@dataclass(frozen=True)
class Prompts:
    """Where the prompts come from: our kinds and those of `folder`, a kind's folder or a folder of such.

    A kind of `folder` takes the place of ours with the same name. `language` is a code or an English name.
    `structured`: replies are wanted as JSON; only for a client that keeps to schemas.
    """

    folder: Path | None = None
    language: str = ENGLISH
    structured: bool = False

    def folders(self) -> dict[str, KindFolder]:
        """Every kind's folder, by its name. Raises VistuneError for a `folder` without any."""
        return {folder.name: KindFolder(folder) for folder in (*_kinds_in(prompts()), *self._own())}

    def own(self) -> list[str]:
        """The names of the kinds that `folder` adds or replaces."""
        return sorted(folder.name for folder in self._own())

    def _own(self) -> list[Any]:
        if self.folder is None:
            return []
        own = [self.folder] if (self.folder / "kind.yaml").is_file() else list(_kinds_in(self.folder))
        if not own:
            fix = "a kind is a folder with kind.yaml, system.txt and fewshot/; give it, or the folder that holds it"
            raise VistuneError("there is no kind in this folder", where=str(self.folder), fix=fix)
        return own

    def load(self, name: str, context: Collection[str] | None = None) -> Kind:
        """The kind of that name; `context` replaces the parts of the context that its folder says it shows.

        Raises VistuneError for an unknown kind, part or language and for what is wrong in the kind's files.
        """
        folders = self.folders()
        if name not in folders:
            raise VistuneError(f"unknown kind '{name}'", fix=did_you_mean(name, folders))
        code = language_code(self.language)
        kind = _read(folders[name], code, self.structured)
        if context is None:
            return kind
        for part in context:
            if part not in PARTS:
                fix = did_you_mean(part, PARTS)
                raise VistuneError(f"unknown part '{part}' of the context", where=f"kind '{name}'", fix=fix)
        return replace(kind, context=tuple(part for part in PARTS if part in context))


def kind_names() -> list[str]:
    """The names of our kinds, sorted."""
    return sorted(Prompts().folders())


def load_kind(name: str, context: Collection[str] | None = None) -> Kind:
    """One of our kinds, in English and as text: see `Prompts.load`."""
    return Prompts().load(name, context)


def brief_questions(language: str = ENGLISH, folder: Path | None = None) -> tuple[str, ...]:
    """The wordings that ask for a brief description, for stage 1's caption pairs in `language`.

    They are ours, or `folder`'s (brief.<code>.txt). Raises VistuneError for a language without any.
    """
    code = language_code(language)
    name = "brief" if code == ENGLISH else f"brief.{code}"
    places = [place for place in (folder, prompts()) if place is not None and (place / f"{name}.txt").is_file()]
    if not places:
        fix = f"write {name}.txt, one wording a line, into a folder and name it with --kind-dir"
        raise VistuneError(f"there are no brief questions in {language_name(code)}", fix=fix)
    return tuple(read_text(places[0], name).splitlines())


def _kinds_in(folder: Traversable) -> Iterator[Any]:
    if not folder.is_dir():
        raise VistuneError("there is no such folder", where=str(folder))
    yield from (one for one in sorted(folder.iterdir(), key=lambda one: one.name) if (one / "kind.yaml").is_file())


def _read(folder: KindFolder, language: str, structured: bool) -> Kind:
    settings = folder.settings()
    return Kind(
        name=folder.name,
        context=settings.context,
        system_text=folder.system(),
        examples=folder.examples(settings),
        questions=folder.questions(language) if settings.question == "list" else (),
        turns=settings.turns,
        words=(1, settings.words[1]) if language in UNSPACED else settings.words,
        language=language,
        structured=structured,
    )

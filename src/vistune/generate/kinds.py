"""The kinds of instruction data: what the teacher sees, is instructed to write, and answers (docs/guides/own-kinds.md).

A kind is a folder of text files, ours or a user's:

<kind>/kind.yaml              the parts of the context, the origin of the questions, and the limits of a sample
<kind>/system.txt             the system prompt, with {context} and {format} where these are described
<kind>/questions.txt          with `question: list`, the questions, one a line; questions.<code>.txt in a language
<kind>/fewshot/N.context.txt  an example's captions and boxes, of which the teacher sees the kind's parts
<kind>/fewshot/N.reply.txt    the reply to it
<kind>/fewshot/N.boxes.txt    if it is there, the reply to its boxes alone: for images without captions
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vistune.errors import VistuneError, did_you_mean
from vistune.generate.languages import ENGLISH, UNSPACED, language_code, language_name
from vistune.generate.replies import ReplyError, parse_reply, to_json
from vistune.llm.client import Request
from vistune.reading import read_text
from vistune.recipe.schema import Section, load
from vistune.records import ImageRecord, Turn
from vistune.resources import folder as package_folder
from vistune.resources import load_yaml
from vistune.scene.context import PARTS, Part, format_context, one_line, parse_context
from vistune.seeded import bits

_NO_CONTEXT = "The image."
Band = tuple[Annotated[int, Field(ge=1, strict=True)], Annotated[int, Field(strict=True)]]


class KindSettings(Section):
    """The content of kind.yaml."""

    context: Annotated[tuple[Part, ...], Field(min_length=1)]
    """context: [captions], [boxes] or [captions, boxes]"""
    question: Literal["ask", "list"]
    """question: ask (the teacher writes the question, too) or list (one of questions.txt)"""
    turns: Band
    """turns: [1, 12]  # minimum and maximum number of question-answer pairs"""
    words: Band
    """words: [1, 120]  # minimum and maximum number of words of an answer"""
    requires: tuple[Part, ...] = ()
    """requires: [boxes]  # parts without which an image gets no sample"""
    boxes: bool = False
    """boxes: true  # the turns contain boxes as [x1, y1, x2, y2], in fractions of the image's sides"""

    @field_validator("turns", "words")
    @classmethod
    def _ordered(cls, band: Band) -> Band:
        if band[0] > band[1]:
            raise ValueError("the minimum comes first, then the maximum")
        return band


@dataclass(frozen=True)
class Kind:
    """One kind of instruction data: how it is requested and the limits that its samples keep to.

    `examples` are pairs of a full context (captions and boxes) and the reply to it, `box_examples` those of a context's
    boxes alone; `questions` is empty where the teacher writes the questions. `turns` bounds the question-answer pairs,
    `words` the words of an answer. With `structured` replies are requested as JSON of `schema`, else as text between
    lines of `===`. `about` says what all images are of; with `sees` the teacher is shown the image. `lacks` are parts
    of the context that the image has none of, `requires` those without which it gets no sample. With `has_boxes` the
    turns contain boxes, as [x1, y1, x2, y2].
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
    about: str = ""
    sees: bool = False
    box_examples: tuple[tuple[str, str], ...] = ()
    requires: tuple[Part, ...] = ()
    has_boxes: bool = False
    lacks: tuple[Part, ...] = ()

    @cached_property
    def system(self) -> str:
        """The system prompt, with what the teacher sees of an image, the format, the domain and the language."""
        parts = _parts()
        described = [*self.context, *(f"no_{part}" for part in self.lacks if not self.sees)]
        sight = ("seen" if self.context else "seen_alone") if self.sees else "unseen"
        form = "answer" if self.questions else "pair" if self.turns[1] == 1 else "dialogue"
        text = self.system_text
        if self.sees and "{sight}" not in text:
            text += "\n\n{sight}"
        text = text.replace("{sight}", parts["sight"][sight])
        text = text.replace("{context}", "\n".join(parts["context"][name] for name in described))
        texts = [text.replace("{format}", parts["json" if self.structured else "text"][form]).strip()]
        if self.about:
            texts.append(parts["end"]["about"].replace("{about}", self.about))
        if self.language != ENGLISH:
            texts.append(parts["end"]["language"].replace("{language}", language_name(self.language)))
        return "\n\n".join(texts)

    @cached_property
    def fewshot(self) -> tuple[Turn, ...]:
        """The examples as messages: each context cut to the kind's parts, each reply in the requested format."""
        pairs = ((self._visible(context), self._formatted(reply)) for context, reply in self.examples)
        return tuple(m for context, reply in pairs for m in (Turn("user", context), Turn("assistant", reply)))

    @cached_property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of the replies; None for text."""
        return dict(_parts()["schema"]["answer" if self.questions else "dialogue"]) if self.structured else None

    @cached_property
    def prompt_hash(self) -> str:
        """SHA-256 of the system prompt, the examples and the questions: the version of the prompt."""
        texts = (self.system, *(message.text for message in self.fewshot), *self.questions)
        return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()

    def of(self, record: ImageRecord) -> Kind | None:
        """The kind as `record` can have it: its prompt promises no part that the record lacks.

        Where the record has none of the kind's parts it shows the others. None if there is nothing to show.
        """
        has = [part for part in PARTS if format_context(record, (part,))]
        parts = tuple(part for part in self.context if part in has) or tuple(has)
        if not set(self.requires) <= set(has) or (not parts and not self.sees):
            return None
        return self if parts == self.context else _with_parts(self, parts)

    def request(self, record: ImageRecord, seed: int) -> Request:
        """The request for `record`, of which the kind shows its parts (`of`)."""
        context = format_context(record, self.context) or _NO_CONTEXT
        messages = (*self.fewshot, Turn("user", context))
        number = bits(seed, record.id, self.name) >> 33
        return Request(self.system, messages, self.name, number, record.id, schema=self.schema, about=self.about)

    def _visible(self, context: str) -> str:
        captions, boxes = parse_context(context)
        return format_context(ImageRecord("", Path(), 0, 0, captions, boxes), self.context)

    def _formatted(self, reply: str) -> str:
        return to_json(parse_reply(reply, bool(self.questions))) if self.structured else reply


@cache  # a variant's prompt is put together once
def _with_parts(kind: Kind, parts: tuple[Part, ...]) -> Kind:
    lacks = tuple(part for part in PARTS if part not in parts)
    examples = kind.box_examples if parts == ("boxes",) and "captions" in kind.context else kind.examples
    return replace(kind, context=parts, examples=examples if parts else (), lacks=lacks)


@dataclass(frozen=True)
class Prompts:
    """Where the prompts come from: our kinds and those of `folder`, a kind's folder or a folder of several.

    A kind of `folder` takes the place of ours with the same name. `language` is a code or an English name, `about` what
    the images are of; with `sees` the teacher is shown the image.
    """

    folder: Path | None = None
    language: str = ENGLISH
    about: str = ""
    sees: bool = False

    def folders(self) -> dict[str, Path]:
        """Every kind's folder, by its name."""
        return _kinds_in(prompt_folder()) | self.own()

    def own(self) -> dict[str, Path]:
        """The kinds that `folder` adds or replaces, sorted. Raises VistuneError for a `folder` without any."""
        if self.folder is None:
            return {}
        is_kind = (self.folder / "kind.yaml").is_file()
        own = {self.folder.name: self.folder} if is_kind else _kinds_in(self.folder)
        if not own:
            fix = "a kind is a folder with kind.yaml, system.txt and fewshot/; give it, or the folder that holds it"
            raise VistuneError("there is no kind in this folder", where=str(self.folder), fix=fix)
        return own

    def load(self, name: str, needs: Collection[str] = ()) -> Kind:
        """The kind of that name, which also shows the parts of the context that the teacher `needs`.

        Raises VistuneError for an unknown kind or language and for a mistake in the kind's files.
        """
        folders = self.folders()
        if name not in folders:
            raise VistuneError(f"unknown kind '{name}'", fix=did_you_mean(name, folders))
        kind = _load(folders[name], language_code(self.language), needs)
        return replace(kind, about=one_line(self.about), sees=self.sees)


def brief_questions(language: str = ENGLISH, folder: Path | None = None) -> tuple[str, ...]:
    """The questions for a brief description, of stage 1's caption pairs, in `language`.

    They are ours, or `folder`'s (brief.<code>.txt). Raises VistuneError for a language without any.
    """
    code = language_code(language)
    name = "brief" if code == ENGLISH else f"brief.{code}"
    for place in (folder, prompt_folder()):
        if place is not None and (place / f"{name}.txt").is_file():
            return tuple(_read(place, name).splitlines())
    fix = f"write {name}.txt, one question a line, into a folder and name it with --kind-dir"
    raise VistuneError(f"there are no brief questions in {language_name(code)}", fix=fix)


def prompt_folder() -> Path:
    """The folder of our prompt files."""
    return package_folder("vistune.generate", "prompts")


@cache
def _parts() -> Mapping[str, Any]:
    """What the prompts of all kinds have in common."""
    return dict(load_yaml("vistune.generate", "prompts/parts.yaml"))


def _kinds_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise VistuneError("there is no such folder", where=str(folder), fix="check --kind-dir")
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/kind.yaml"))}


def _load(folder: Path, language: str, needs: Collection[str]) -> Kind:
    settings = load(KindSettings, folder / "kind.yaml")
    fewshot = folder / "fewshot"
    return Kind(
        name=folder.name, context=tuple(part for part in PARTS if part in {*settings.context, *needs}),
        system_text=_system(folder), examples=_examples(fewshot, settings, "reply"),
        box_examples=_examples(fewshot, settings, "boxes"),
        questions=_questions(folder, language) if settings.question == "list" else (), turns=settings.turns,
        words=(1, settings.words[1]) if language in UNSPACED else settings.words, language=language,
        requires=settings.requires, has_boxes=settings.boxes,
    )  # fmt: skip


def _system(folder: Path) -> str:
    text = _read(folder, "system")
    for place, content in (("{context}", "the parts of the context"), ("{format}", "the format of the reply")):
        if place not in text:
            fix = f"write {place} where {content} is described"
            raise VistuneError(f"there is no {place} in it", where=str(folder / "system.txt"), fix=fix)
    return text


def _questions(folder: Path, language: str) -> tuple[str, ...]:
    name = "questions" if language == ENGLISH else f"questions.{language}"
    if not (folder / f"{name}.txt").is_file():
        fix = f"copy the folder '{folder.name}', write {name}.txt, one question a line, and name it with --kind-dir"
        what = f"kind '{folder.name}' draws its questions from a list, and there is none in {language_name(language)}"
        raise VistuneError(what, where=str(folder), fix=fix)
    lines = tuple(line.strip() for line in _read(folder, name).splitlines() if line.strip())
    if not lines:
        raise VistuneError("there are no questions in it", where=str(folder / f"{name}.txt"), fix="write one a line")
    return lines


def _examples(folder: Path, settings: KindSettings, reply: str) -> tuple[tuple[str, str], ...]:
    """The few-shot pairs of a context and a reply, numbers first; none without the folder."""
    files = [*folder.glob(f"*.{reply}.txt"), *(folder.glob("*.context.txt") if reply == "reply" else ())]
    stems = sorted({file.name.split(".")[0] for file in files})
    stems.sort(key=lambda stem: int(stem) if stem.isdecimal() else 10**9)
    return tuple(_example(folder, stem, settings, reply) for stem in stems)


def _example(folder: Path, stem: str, settings: KindSettings, name: str) -> tuple[str, str]:
    context, reply = _read(folder, f"{stem}.context"), _read(folder, f"{stem}.{name}")
    try:
        parse_context(context)
    except ValueError as error:
        fix = "captions, one a line; an empty line; boxes, one a line as 'dog: [0.1, 0.2, 0.3, 0.4]'"
        raise VistuneError(str(error), where=str(folder / f"{stem}.context.txt"), fix=fix) from None
    where = str(folder / f"{stem}.{name}.txt")
    try:
        pairs = len(parse_reply(reply, settings.question == "list").turns) // 2 or 1
    except ReplyError as error:
        raise VistuneError(f"not a reply: {error}", where=where, fix="write it in the text format") from None
    low, high = settings.turns
    if not low <= pairs <= high:
        what, fix = f"it has {pairs} questions, and kind.yaml allows {low} to {high}", "change `turns` there"
        raise VistuneError(what, where=where, fix=fix)
    return context, reply


def _read(folder: Path, name: str) -> str:
    """The text of `name`.txt, without white space around it. Raises VistuneError if it is missing or not UTF-8."""
    return read_text(folder / f"{name}.txt", VistuneError).strip()

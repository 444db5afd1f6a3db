"""The files of a kind's folder, read with errors that name the file and the key.

<kind>/kind.yaml              what the teacher sees, who asks, and the bands a sample must keep to
<kind>/system.txt             the system prompt; {context} becomes what is said of the parts, {format} the form wanted
<kind>/questions.txt          with `question: list`, the questions, one a line; questions.<code>.txt in a language
<kind>/fewshot/N.context.txt  an example's captions and boxes, of which the teacher sees its parts
<kind>/fewshot/N.reply.txt    the reply wanted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any, Literal

import yaml

from vistune.errors import VistuneError, did_you_mean
from vistune.generate.languages import ENGLISH, language_name
from vistune.generate.replies import ReplyError, parse_reply
from vistune.scene.context import PARTS, Part, parse_context


@dataclass(frozen=True, slots=True)
class KindSettings:
    """What kind.yaml says; of `turns` and `words` the least and the most allowed."""

    context: tuple[Part, ...]
    question: Literal["ask", "list"]
    turns: tuple[int, int]
    words: tuple[int, int]


@dataclass(frozen=True)
class KindFolder:
    """A kind's folder, ours or a user's. Every method raises VistuneError for what is missing or wrong."""

    path: Traversable

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.path.name

    def settings(self) -> KindSettings:
        """What kind.yaml says."""
        where = str(self.path / "kind.yaml")
        try:
            content = yaml.safe_load((self.path / "kind.yaml").read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise VistuneError(f"not valid YAML: {' '.join(str(error).split())}", where=where) from None
        if not isinstance(content, dict):
            fix = f"its keys are {', '.join(_KEYS)}"
            raise VistuneError("it is not a mapping of keys to values", where=where, fix=fix)
        return _settings(content, where)

    def system(self) -> str:
        """The system prompt with its places for the parts of the context and the format."""
        text = read_text(self.path, "system")
        for place in ("{context}", "{format}"):
            if place not in text:
                fix = f"write {place} where the teacher is told {_PLACES[place]}"
                raise VistuneError(f"there is no {place} in it", where=str(self.path / "system.txt"), fix=fix)
        return text

    def questions(self, language: str) -> tuple[str, ...]:
        """The list of questions in the language with that code."""
        name = "questions" if language == ENGLISH else f"questions.{language}"
        if not (self.path / f"{name}.txt").is_file():
            fix = f"copy the folder '{self.name}', write {name}.txt, one question a line, and name it with --kind-dir"
            what = f"kind '{self.name}' draws its questions from a list, and there is none in {language_name(language)}"
            raise VistuneError(what, where=str(self.path), fix=fix)
        lines = tuple(line.strip() for line in read_text(self.path, name).splitlines() if line.strip())
        if not lines:
            raise VistuneError("there are no questions in it", where=str(self.path / f"{name}.txt"))
        return lines

    def examples(self, settings: KindSettings) -> tuple[tuple[str, str], ...]:
        """The few-shot pairs of a context and a reply, by name; none without a folder `fewshot`."""
        folder = self.path / "fewshot"
        if not folder.is_dir():
            return ()
        names = [file.name for file in folder.iterdir()]
        stems = sorted({name.split(".")[0] for name in names if name.endswith((".context.txt", ".reply.txt"))}, key=_n)
        return tuple(self._example(folder, stem, settings) for stem in stems)

    def _example(self, folder: Traversable, stem: str, settings: KindSettings) -> tuple[str, str]:
        context, reply = read_text(folder, f"{stem}.context"), read_text(folder, f"{stem}.reply")
        try:
            parse_context(context)
        except ValueError as error:
            fix = "captions, one a line; an empty line; boxes, one a line as 'dog: [0.1, 0.2, 0.3, 0.4]'"
            raise VistuneError(str(error), where=str(folder / f"{stem}.context.txt"), fix=fix) from None
        try:
            pairs = len(parse_reply(reply, settings.question == "list").turns) // 2 or 1
        except ReplyError as error:
            fix = "it has to have the form that the teacher is asked for"
            raise VistuneError(f"not a reply: {error}", where=str(folder / f"{stem}.reply.txt"), fix=fix) from None
        if not settings.turns[0] <= pairs <= settings.turns[1]:
            low, high = settings.turns
            what = f"it has {pairs} questions, and kind.yaml allows {low} to {high}"
            raise VistuneError(what, where=str(folder / f"{stem}.reply.txt"))
        return context, reply


_PLACES = {"{context}": "what it sees of an image", "{format}": "the form of its reply"}


def read_text(folder: Traversable, name: str) -> str:
    """The text of `name`.txt, without white space around it. Raises VistuneError if it is not there or no text."""
    file = folder / f"{name}.txt"
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError:
        raise VistuneError("there is no such file", where=str(file)) from None
    except UnicodeDecodeError:
        raise VistuneError("this is no text in UTF-8", where=str(file)) from None


def _settings(content: Mapping[Any, Any], where: str) -> KindSettings:
    """Four keys are checked by hand: pydantic would be a sixth of what the command needs to start."""
    for key in content:
        if key not in _KEYS:
            raise VistuneError(f"unknown key '{key}'", where=where, fix=did_you_mean(str(key), _KEYS))
    for key, (fits, form) in _KEYS.items():
        if key not in content:
            raise VistuneError(f"the key '{key}' is missing", where=where, fix=form)
        if not fits(content[key]):
            raise VistuneError(f"'{key}' cannot be {content[key]!r}", where=where, fix=form)
    turns, words = tuple(content["turns"]), tuple(content["words"])
    return KindSettings(tuple(content["context"]), content["question"], turns, words)


def _parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(part in PARTS for part in value)


def _band(value: Any) -> bool:
    return isinstance(value, list) and [type(end) for end in value] == [int, int] and 1 <= value[0] <= value[1]


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "context": (_parts, "context: [captions], [boxes] or [captions, boxes]"),
    "question": (("ask", "list").__contains__, "question: ask (the teacher asks) or list (one of questions.txt)"),
    "turns": (_band, "turns: [1, 12]  # question and answer pairs, the least and the most"),
    "words": (_band, "words: [1, 120]  # words in an answer, the least and the most"),
}
"""What fits each key, and what is to be written."""


def _n(stem: str) -> tuple[int, str]:
    return (int(stem), "") if stem.isdecimal() else (10**9, stem)

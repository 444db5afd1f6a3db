"""The errors that a user can fix: what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
import importlib
import re
import signal
from collections.abc import Iterable
from typing import Any

from vistune.printable import printable

_LONG_WORD = re.compile(r"\S{500,}")


class VistuneError(Exception):
    """A user's mistake. The command line prints it without a traceback and exits with `exit_code`.

    `what` is wrong, `where` is the file and record, `fix` is what to do: texts without control characters, whatever
    parts of others they have.
    """

    exit_code = 2
    usual_fix = ""
    """What to do where an error of the class does not say it."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = (_shown(text) for text in (what, where, fix or self.usual_fix))
        parts = [f"{self.where}: {self.what}" if where else self.what]
        if self.fix:
            parts.append(f"  fix: {self.fix}")
        super().__init__("\n".join(parts))


def _shown(text: str) -> str:
    """It without control characters, and without the middle of words and texts that would fill the terminal."""
    text = _LONG_WORD.sub(lambda word: _shorten(word[0], 100), printable(text))
    return _shorten(text, 1500) if len(text) > 3000 else text


def _shorten(text: str, ends: int) -> str:
    return f"{text[:ends]}…{text[-ends:]}"


class AnnotationError(VistuneError):
    """An annotation file or one of its records cannot be used."""

    usual_fix = "correct it, or leave records with mistakes out with --skip-bad-records"


class RecipeError(VistuneError):
    """A recipe has an unknown key or a value that cannot be used."""


class ClientError(VistuneError):
    """A teacher or judge cannot be reached or does not answer."""


class DataError(VistuneError):
    """A training sample or an image cannot be used."""

    usual_fix = "correct it, or remove the record"


class TrainingError(VistuneError):
    """Training cannot continue: its loss or gradient is no longer finite."""


class CheckpointError(VistuneError):
    """A checkpoint is missing, incomplete or of an unsupported family."""


class StorageError(VistuneError):
    """The disk is full. The unfinished file is removed; earlier ones are left."""

    exit_code = 74  # EX_IOERR of sysexits.h


class MissingPackageError(VistuneError):
    """An optional package is missing; the fix is the line that installs it."""


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM ended a training that can be resumed.

    As a KeyboardInterrupt it passes `except Exception`.
    """

    def __init__(self, number: int, when: str = "") -> None:
        self.exit_code = 128 + number  # as shells do
        super().__init__(f"stopped by {signal.Signals(number).name}{when}: the same command resumes from there")


def require(package: str, extra: str, purpose: str, *, where: str = "") -> Any:
    """The module `package` of an optional dependency; `purpose` ("reading parquet") is for the message.

    Raises MissingPackageError with the line that installs vistune's `extra`, or the package itself if `extra` is "".
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        fix = f"pip install 'vistune[{extra}]'" if extra else f"pip install {name}"
        raise MissingPackageError(f"{purpose} needs the package {name}", where=where, fix=fix) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped `name` out of `known`, or the list of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(known)}"

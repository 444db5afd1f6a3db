"""Files and folders that are whole or do not exist: written under a temporary name and renamed.

Every atomic write of the package is here. Folders also get a manifest of hashes and are synced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vistune.errors import StorageError

MANIFEST = "manifest.json"
"""The file that lists a folder's other files, each with its size and SHA-256, and has a SHA-256 of this list."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; the file then replaces `path`.

    If the writing fails, `path` is as it was. Raises StorageError if the disk is full.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with storage_errors(path):
            yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A text file that appears under `path` whole or not at all. Raises StorageError if the disk is full.

    Half of a surrogate pair, which JSON can spell and UTF-8 cannot, is written as `?`.
    """
    with atomic_path(path) as partial, partial.open("x", encoding="utf-8", errors="replace", newline="\n") as file:
        yield file


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A new temporary folder to write into; its files are then synced to the disk, with their manifest."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with storage_errors(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            files = {file.name: [file.stat().st_size, _sha256(file)] for file in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(_manifest(files), "utf-8")
            for file in partial.iterdir():
                sync(file)
            sync(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to write into. It gets a manifest and then replaces `path` as a whole.

    If anything fails, it is removed, and `path` is as it was. Raises StorageError if the disk is full.
    """
    with _written_beside(path) as partial:
        yield partial
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)
    sync(path.parent)


@contextmanager
def add_files(path: Path, last: str) -> Iterator[Path]:
    """A new folder to write into. It gets a manifest; its files are then moved into `path`, `last` after all others.

    So `path` may hold other files, too, and has a file named `last` only if it has all. If the writing fails, `path`
    is as it was. Raises StorageError if the disk is full.
    """
    with _written_beside(path) as partial:
        yield partial
    path.mkdir(exist_ok=True)
    for file in sorted(partial.iterdir(), key=lambda file: file.name == last):
        file.replace(path / file.name)
    partial.rmdir()
    sync(path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raises StorageError in place of a library's own error of a full disk while `path` is written."""
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers raise exceptions of their own, with the number in the text
        number = re.search(r"os error (\d+)", str(error))
        code = error.errno if isinstance(error, OSError) else int(number[1]) if number else 0
        if code not in _FULL:
            raise
        fix = "free some space and run the same command again: it continues from the last state"
        where = error.filename if isinstance(error, OSError) and error.filename else path
        raise StorageError(f"cannot be written: {os.strerror(code)}", where=str(where), fix=fix) from error


def find_damage(folder: Path) -> str | None:
    """The first file of `folder` that differs from its manifest, and how; None if none does. Reads every byte."""
    try:
        text = (folder / MANIFEST).read_text("utf-8")
        files = json.loads(text)["files"]
    except FileNotFoundError:
        return f"{folder / MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder / MANIFEST} is no valid manifest"
    if text != _manifest(files):
        return f"{folder / MANIFEST} was changed"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes, not the {size} that were written"
        if _sha256(path) != digest:
            return f"{path} has other content than was written (SHA-256)"
    return None


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest(files: object) -> str:
    listed = json.dumps(files)
    return json.dumps({"files": files, "sha256": hashlib.sha256(listed.encode()).hexdigest()}, indent=1) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

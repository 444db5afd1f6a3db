"""Files and folders that are whole or do not exist: written under a temporary name and renamed.

Every atomic write of the package is here. Folders also get a manifest of hashes and are synced.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from glob import escape as glob_escape
from pathlib import Path
from typing import TextIO

from vistune.errors import StorageError, VistuneError

MANIFEST = "manifest.json"
"""The file that lists a folder's other files, each with its size and SHA-256, and has a SHA-256 of this list."""
OVERWRITE = "choose another --out, or replace what is there with --overwrite"
"""The fix where a file is not replaced."""
_PERMISSIONS = "check the permissions, or choose another folder"
_FIXES = {
    errno.EACCES: _PERMISSIONS, errno.EPERM: _PERMISSIONS, errno.EROFS: _PERMISSIONS,
    errno.ENOENT: "check the path: there is no such file or folder",
    errno.ENOTDIR: "choose another path: a file stands where a folder has to be",
    errno.EEXIST: "choose another path: a file stands where a folder has to be",
    errno.EISDIR: "choose another path: a folder stands there",
    errno.ENOTEMPTY: "choose another path: a folder stands there",
    errno.ENAMETOOLONG: "choose a shorter name", errno.ELOOP: "choose another path: links go in a circle",
    errno.EINVAL: "choose another name", errno.EMFILE: "close programs, or raise the limit (ulimit -n)",
}  # fmt: skip
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; the file then replaces `path`.

    If the writing fails, `path` is as it was. Raises StorageError if the disk is full, VistuneError if the file cannot
    be written there.
    """
    partial = _partial(path)
    try:
        with storage_errors(path, partial):
            yield partial
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_files(*paths: Path, overwrite: bool = False) -> Iterator[tuple[Path, ...]]:
    """As `atomic_path`, but existing files are replaced only with `overwrite`, or by the same content.

    Raises VistuneError, and leaves all files as they are, where one of them is another one.
    """
    with ExitStack() as stack:
        partials = tuple(stack.enter_context(atomic_path(path)) for path in paths)
        yield partials
        for path, partial in zip(paths, partials, strict=True):
            if not overwrite and path.exists() and not filecmp.cmp(partial, path, shallow=False):
                raise VistuneError("there is another file already", where=str(path), fix=OVERWRITE)


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Raise VistuneError for the first of the paths where there is something, without `overwrite`."""
    if not overwrite and (other := next(filter(Path.exists, paths), None)):
        raise VistuneError("there is such a file already", where=str(other), fix=OVERWRITE)


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A text file that appears under `path` whole or not at all. Raises StorageError if the disk is full.

    Half of a surrogate pair, which JSON can spell and UTF-8 cannot, is written as `?`.
    """
    with atomic_path(path) as partial, partial.open("x", encoding="utf-8", errors="replace", newline="\n") as file:
        yield file


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file, whole or not at all. Raises StorageError if the disk is full."""
    with storage_errors(path, path), path.open("ab", buffering=0) as file:
        end, rest = file.tell(), memoryview(text.encode(errors="replace"))
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(end)
            raise


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A new temporary folder to write into; its files are then synced to the disk, with their manifest."""
    remove_partial(path)
    partial = _partial(path)
    try:
        with storage_errors(path, partial):
            partial.mkdir(parents=True)
            yield partial
            files = {file.name: [file.stat().st_size, _sha256(file)] for file in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(_manifest(files), "utf-8")
            for file in partial.iterdir():
                shutil.copymode(partial / MANIFEST, file)  # safetensors' can be read by their owner only
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
def storage_errors(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Raises StorageError in place of a library's own error of a full disk while `path` is written.

    The message has the size so far of `partial`, the temporary file or folder; that this cannot be made is a
    VistuneError. All other errors stay as they are.
    """
    try:
        yield
    except Exception as error:
        code = _error_number(error)
        own = os.fsdecode(error.filename) if isinstance(error, OSError) and isinstance(error.filename, str) else ""
        if partial and own.startswith(str(partial)):
            own = ""
        elif code not in _FULL:
            raise
        where, size = own or str(final_path(path)), f" after {_size(partial):,} bytes" if partial else ""
        raise explain(OSError(code, os.strerror(code), where), size) from error


def _error_number(error: Exception) -> int:
    """The operating system's number of an error, 0 if it has none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if re.search(r"requested and \d+ written", str(error)):  # NumPy's array.tofile gives no number
        return errno.ENOSPC
    # safetensors and tokenizers raise exceptions of their own, with the number in the text
    number = re.search(r"os error (\d+)", str(error))
    return int(number[1]) if number else 0


def explain(error: OSError, size: str = "") -> VistuneError:
    """What a user can do about an error of the operating system: a StorageError if the disk is full."""
    reason, where = error.strerror or str(error), str(error.filename or "")
    if error.errno in _FULL:
        fix = "free some space and run the same command again: it continues where it can"
        return StorageError(f"cannot be written: {reason}{size or _left(where)}", where=where, fix=fix)
    return VistuneError(reason, where=where, fix=_FIXES.get(error.errno or 0, "check the path and its disk"))


def _left(where: str) -> str:
    """The room on the disk of a file, where its own size is not known."""
    if not where:
        return ""
    path = Path(where).absolute()
    there = next(one for one in (path, *path.parents) if one.exists())
    return f"; the disk has {shutil.disk_usage(there).free:,} bytes left"


def _size(partial: Path) -> int:
    """The bytes of a file, or of all files of a folder."""
    files = partial.rglob("*") if partial.is_dir() else [partial]
    return sum(file.stat().st_size for file in files if file.is_file())


def remove_partial(path: Path) -> None:
    """Remove what killed runs left of unfinished files or folders for `path`; no other run may be writing it."""
    for left in path.parent.glob(f".{glob_escape(path.name)}.*.partial"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """A name beside `path` that cannot be guessed, so that no one can put a link there first.

    Raises VistuneError for `.` and `/`, which are no files.
    """
    if not path.name:
        raise explain(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)))
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def final_path(path: Path) -> Path:
    """The path that a user knows, also of a file that is written in two steps."""
    while found := re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.partial", path.name):
        path = path.with_name(found[1])
    return path


def find_damage(folder: Path) -> str | None:
    """The first file of `folder` that differs from its manifest, and how; None if none does. Reads every byte."""
    try:
        text = (folder / MANIFEST).read_text("utf-8")
        files = json.loads(text)["files"]
    except FileNotFoundError:
        return f"{folder / MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
    """Flush a file's content, or a folder's entries, to the disk. Windows does so by itself."""
    if os.name == "nt":
        return
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

"""The folder that a run writes to: one run at a time uses it, and it replaces nothing but what such a run has written.

`run.json` in the folder lists the files that a run wrote, each with its size and SHA-256, and what the run was of.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.reading import WRONG_TYPE, read_json
from vistune.storage import OVERWRITE, atomic_text, explain, remove_partial, storage_errors

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RUN = "run.json"
_LOCK = ".vistune.lock"
_BEYOND = 1 << 30
"""On Windows a locked byte cannot be read; this one is far behind the text that names the process."""
_Listed = dict[str, list[Any] | None]
"""Size and SHA-256 of each file; None of one that is being written, of one that grows, and of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The output folder, made if needed, for this run alone; it is removed again if the run writes nothing into it.

    The lock is the operating system's, so it ends with the process, however that ends. Raises VistuneError, which names
    the process, if another run has the lock, and for a folder that cannot be written, StorageError for a full disk.
    """
    with _held(folder / _LOCK, folder, "using this folder"), storage_errors(folder):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """A file for this run alone; others may write other files into its folder, which is made if needed.

    Raises as `locked`.
    """
    with _held(path.parent / f".{path.name}.lock", path, "writing this file"):
        yield


@contextmanager
def empty_folder(folder: Path, *, overwrite: bool = False) -> Iterator[None]:
    """The `locked` folder. Raises VistuneError if it holds anything, without `overwrite`."""
    with locked(folder):
        if not overwrite and (other := next((one for one in sorted(folder.iterdir()) if one.name != _LOCK), None)):
            raise VistuneError(f"the folder is not empty: {other.name}", where=str(folder), fix=OVERWRITE)
        yield


@contextmanager
def output_folder(
    folder: Path, names: Sequence[str], *, grows: Sequence[str] = (), run: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None, overwrite: bool = False,
) -> Iterator[None]:  # fmt: skip
    """The `locked` folder, for a run that writes the files and folders `names` into it, and adds to those of `grows`.

    `run` is what the files are of: finished ones of another run are not replaced. `facts` are noted in run.json, too.
    Without `overwrite`, raises VistuneError for a file or folder of these names that no run has written, or that was
    changed since. A run that was interrupted is continued.
    """
    with locked(folder), own_files(folder, names, grows=grows, run=run, facts=facts, overwrite=overwrite):
        yield


@contextmanager
def own_files(
    folder: Path, names: Sequence[str], *, grows: Sequence[str] = (), run: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None, overwrite: bool = False,
) -> Iterator[None]:  # fmt: skip
    """As `output_folder`, in a folder that this run has locked."""
    for name in names:
        remove_partial(folder / name)
    earlier = _read(folder / RUN)
    if not overwrite:
        _check(folder, [*names, *grows], earlier, dict(run or {}))
    note, files = {**(facts or {}), "run": dict(run or {})}, [*names, *grows]
    # before the files: what a killed run has written is known as its own
    _write(folder / RUN, note, {**earlier["files"], **dict.fromkeys(files)})
    try:
        yield
    except BaseException:
        _take_back(folder, files, earlier)
        raise
    states = {name: None if name in grows else _state(folder / name) for name in files if (folder / name).exists()}
    _write(folder / RUN, note, {**earlier["files"], **states})


def _take_back(folder: Path, names: Sequence[str], earlier: Mapping[str, Any]) -> None:
    """Note what a failed run has left as it was; without an earlier run and files there is nothing to note."""
    if not earlier["files"] and not any((folder / name).exists() for name in names):
        (folder / RUN).unlink(missing_ok=True)
        return
    same = {name: state for name, state in earlier["files"].items() if state and state == _state(folder / name)}
    if same:
        with suppress(VistuneError):  # the disk may be full
            _write(folder / RUN, earlier["note"], {**earlier["files"], **dict.fromkeys(names), **same})


def _check(folder: Path, names: Sequence[str], earlier: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise VistuneError if a file of these names is not that of an earlier such run."""
    files: _Listed = earlier["files"]
    for name in names:
        path = folder / name
        if path.is_dir() and not any(path.iterdir()):
            continue
        if (path.exists() or path.is_symlink()) and name not in files:
            raise VistuneError("it is there already, and no earlier run wrote it", where=str(path), fix=OVERWRITE)
        if files.get(name) and path.exists() and files[name] != _state(path):
            raise VistuneError("it was changed since a run wrote it", where=str(path), fix=OVERWRITE)
    before = earlier["run"]
    changed = [key for key in {**before, **run} if before.get(key) != run.get(key)]
    if changed and any(files.get(name) for name in names):
        what = "; ".join(f"{key} was {_shown(before.get(key))}, is {_shown(run.get(key))}" for key in changed[:5])
        raise VistuneError(f"the results of another run are there: {what}", where=str(folder), fix=OVERWRITE)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _read(path: Path) -> dict[str, Any]:
    """What an earlier run noted. A damaged file, or another's, counts as none, and nothing beside it is replaced."""
    try:
        note = read_json(path, VistuneError)
        files, run = note.pop("files"), note.setdefault("run", {})
        known = isinstance(files, dict) and isinstance(run, dict)
    except (VistuneError, *WRONG_TYPE):
        known = False
    return {"files": files, "run": run, "note": note} if known else {"files": {}, "run": {}, "note": {}}


def _write(path: Path, note: Mapping[str, Any], files: _Listed) -> None:
    with atomic_text(path) as file:
        file.write(json.dumps({**note, "files": files}, indent=1) + "\n")


def _state(path: Path) -> list[Any] | None:
    """The size and hash of a file; None for a folder, and where there is nothing."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):  # something was written into it
        for folder in folders:
            folder.rmdir()


@contextmanager
def _held(lock: Path, place: Path, use: str) -> Iterator[None]:
    """Lock what is at `place` by a file, whose folder is made if needed, and removed again if it is left empty."""
    made = [one for one in lock.parents if not one.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            release = _acquire(lock)
        except OSError as error:
            own = error.filename in (None, str(lock))
            raise explain(OSError(error.errno, error.strerror, str(place if own else error.filename))) from None
        if isinstance(release, str):
            fix = "wait until it has ended, end it, or choose another --out"
            raise VistuneError(f"another run is {use}: {release}", where=str(place), fix=fix)
        stack.callback(release)
        yield


def _acquire(path: Path) -> Callable[[], None] | str:
    """What ends the new lock; the name of the process that has it if that is another."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))
        if not _lock(file):
            holder = os.read(file, 200).decode(errors="replace") or "it is starting"
            os.close(file)
            return holder
        if _is_at(file, path):
            break
        os.close(file)  # the run that had it has removed the file
    name = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}"
    with suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(file, 0)
        os.write(file, name.encode())
    held = [file]

    def forget() -> None:
        while held:
            os.close(held.pop())

    def release() -> None:
        if held:
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
            forget()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)  # a child that outlives the run must not keep its lock
    return release


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    """Lock an open file without waiting; whether that worked. File systems without locks count as unlocked."""
    try:
        if sys.platform == "win32":
            os.lseek(file, _BEYOND, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(file, 0, os.SEEK_SET)
        return False
    except OSError:
        return sys.platform != "win32"
    return True

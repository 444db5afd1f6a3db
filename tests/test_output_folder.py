"""One run at a time uses a folder, and replaces nothing but what such a run has written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vistune.errors import StorageError, VistuneError
from vistune.output_folder import empty_folder, locked, locked_file, output_folder
from vistune.storage import atomic_text

HOLD = "import sys, time; from pathlib import Path; from vistune.output_folder import locked\n"
NAMES = ["a.txt", "b.txt"]


def holder(folder: Path, then: str) -> subprocess.Popen[str]:
    """A process that locks the folder, prints a line and goes on as `then` says."""
    code = f"{HOLD}with locked(Path({str(folder)!r})):\n    (Path({str(folder)!r}) / 'x').touch()\n    {then}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    return process


def write(folder: Path, text: str, names: list[str] | None = None, **options: object) -> None:
    with output_folder(folder, NAMES, **options):  # type: ignore[arg-type]
        for name in NAMES if names is None else names:
            (folder / name).write_text(text)


def test_a_second_run_is_refused_and_the_process_of_the_first_is_named(tmp_path: Path) -> None:
    process = holder(tmp_path, "print('locked', flush=True); time.sleep(60)")
    try:
        with pytest.raises(VistuneError, match=rf"using this folder: process {process.pid} on .*\n  fix: wait"):
            write(tmp_path, "second")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".vistune.lock", "x"]
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_dead_process_is_none(tmp_path: Path) -> None:
    process = holder(tmp_path, "print('locked', flush=True); time.sleep(60)")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".vistune.lock").exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".vistune.lock").exists()


def test_a_child_that_outlives_its_run_does_not_keep_the_lock(tmp_path: Path) -> None:
    fork = "import os; os.fork() and time.sleep(60); print('locked', flush=True); time.sleep(60)"
    process = holder(tmp_path, f"{fork}")
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


def test_a_file_is_locked_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with locked_file(path):
        refused = pytest.raises(
            VistuneError, match=r"a\.json: another run is writing this file: process .*\n  fix: wait"
        )
        with refused, locked_file(path):
            pass
        with locked_file(path.with_name("b.json")), locked(path.parent):
            pass
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "a" / "b", NAMES):
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VistuneError, match=r"file.*: Not a directory\n  fix: choose another path"):
        write(tmp_path / "file" / "out", "x")


def test_files_of_another_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(VistuneError, match=r"b\.txt: it is there already, .*\n  fix: .*--overwrite"):
        write(tmp_path, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    write(tmp_path, "new", overwrite=True)
    assert (tmp_path / "b.txt").read_text() == "new"
    write(tmp_path, "newer")


def test_a_file_that_was_changed_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, "first")
    write(tmp_path, "second")
    (tmp_path / "a.txt").write_text("edited")
    for _ in range(2):
        with pytest.raises(VistuneError, match=r"a\.txt: it was changed since a run wrote it"):
            write(tmp_path, "third")
    assert (tmp_path / "a.txt").read_text() == "edited"


def test_results_of_another_run_are_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, "one", run={"limit": None, "seed": 1})
    with pytest.raises(VistuneError, match="the results of another run are there: limit was null, is 1\n"):
        write(tmp_path, "two", run={"limit": 1, "seed": 1})
    write(tmp_path, "one", run={"limit": None, "seed": 1})
    write(tmp_path, "two", run={"limit": 1, "seed": 1}, overwrite=True)


def test_an_interrupted_run_is_continued_and_what_it_left_alone_stays_known(tmp_path: Path) -> None:
    write(tmp_path, "first", ["a.txt"])
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path, NAMES):
        1 / (tmp_path / "b.txt").write_text("")
    (tmp_path / "a.txt").write_text("edited")
    with pytest.raises(VistuneError, match=r"a\.txt: it was changed"):
        write(tmp_path, "second")
    (tmp_path / "a.txt").write_text("first")
    write(tmp_path, "second")


def test_a_file_that_grows_may_be_edited(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        with output_folder(tmp_path, [], grows=["log.jsonl"]), (tmp_path / "log.jsonl").open("a") as file:
            file.write(text)
        (tmp_path / "log.jsonl").write_text("edited\n")
    assert (tmp_path / "log.jsonl").read_text() == "edited\n"


def test_a_folder_with_anything_in_it_is_not_empty(tmp_path: Path) -> None:
    with empty_folder(tmp_path):
        (tmp_path / "model.safetensors").touch()
    with pytest.raises(VistuneError, match=r"not empty: model\.safetensors"), empty_folder(tmp_path):
        pass
    with empty_folder(tmp_path, overwrite=True):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_names_file_and_size_and_leaves_all(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", str(disk)], check=True)
    try:
        write(disk, "first")
        left = pytest.raises(
            StorageError, match=r"disk: cannot be written: No space .*; the disk has [\d,]{1,6} bytes left\n  fix"
        )
        with left:
            write(disk, "x" * 100_000)
        before = (disk / "b.txt").read_text()
        named = pytest.raises(StorageError, match=r"disk/b\.txt: cannot be written: No space .* after [\d,]+ bytes\n")
        with named, atomic_text(disk / "b.txt") as file:
            file.write("x" * 100_000)
        assert (disk / "b.txt").read_text() == before
        (disk / "a.txt").unlink()
        write(disk, "again")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_pipe_as_run_json_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(VistuneError, match=r"a\.txt: it is there already"):
        write(tmp_path, "theirs")


@pytest.mark.parametrize("note", ["{}", '{"foo": 1}', '{"files": []}', "[]", "{"])
def test_with_anothers_run_json_nothing_is_taken_for_own(note: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(note)
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(VistuneError, match=r"a\.txt: it is there already, and no earlier run wrote it"):
        write(tmp_path, "theirs")
    assert (tmp_path / "a.txt").read_text() == "mine"

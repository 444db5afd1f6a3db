"""A folder is whole or not there, and any change of its files is found."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vistune.errors import StorageError, VistuneError
from vistune.storage import (
    MANIFEST,
    append_text,
    atomic_folder,
    atomic_text,
    find_damage,
    new_files,
    storage_errors,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "whole") as partial:
        (partial / "a.txt").write_text("some text")
        save_file({"w": torch.arange(100.0)}, partial / "b.safetensors")
    return tmp_path / "whole"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_as_it_was_written(folder: Path) -> None:
    assert find_damage(folder) is None
    assert _names(folder) == ["a.txt", "b.safetensors", MANIFEST]
    assert _names(folder.parent) == ["whole"]
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1  # who may read one may read all


@pytest.mark.parametrize("name", ["a.txt", "b.safetensors", MANIFEST])
def test_every_truncation_flipped_bit_and_missing_file_is_found_and_named(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert str(path) in (find_damage(folder) or "")
    for at in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(changed)
        assert str(path) in (find_damage(folder) or "")
    path.unlink()
    assert str(path) in (find_damage(folder) or "")
    path.write_bytes(whole)
    assert find_damage(folder) is None


def test_a_folder_that_fails_is_removed_and_the_old_one_stays(folder: Path) -> None:
    def write() -> None:
        with atomic_folder(folder) as partial:
            (partial / "a.txt").write_text("other text")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert find_damage(folder) is None
    assert _names(folder.parent) == ["whole"]


def test_a_full_disk_is_a_clear_error(folder: Path) -> None:
    """The child's files may have 10 kB: the operating system refuses more, as on a full disk."""
    script = f"""
import torch, resource
from pathlib import Path
from safetensors.torch import save_file
from vistune.storage import atomic_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with atomic_folder(Path({str(folder)!r})) as partial:
    save_file({{"w": torch.zeros(100_000)}}, partial / "b.safetensors")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"StorageError: {folder}: cannot be written: File too large" in ran.stderr
    assert find_damage(folder) is None
    assert _names(folder.parent) == ["whole"]


def test_the_rest_of_a_killed_run_is_removed(folder: Path) -> None:
    for left in (".whole.0123abcd.partial", ".other.0123abcd.partial"):
        (folder.parent / left).mkdir()
        (folder.parent / left / "weights").touch()
    with atomic_folder(folder) as partial:
        assert partial.name not in (".whole.0123abcd.partial", ".whole.partial")
        (partial / "a.txt").write_text("new")
    assert _names(folder.parent) == [".other.0123abcd.partial", "whole"]


def test_files_stay_where_one_of_them_would_be_replaced(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    second.write_text("mine")

    def write(text: str, *, overwrite: bool = False) -> None:
        with new_files(first, second, overwrite=overwrite) as partials:
            for partial in partials:
                partial.write_text(text)

    with pytest.raises(VistuneError, match=r"b\.json: there is another file already\n  fix: .* with --overwrite"):
        write("new")
    assert (_names(tmp_path), second.read_text()) == (["b.json"], "mine")
    write("mine")
    write("new", overwrite=True)
    assert second.read_text() == "new"


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), storage_errors(tmp_path):
        raise PermissionError(13, "no")
    with pytest.raises(StorageError), storage_errors(tmp_path):
        raise OSError(28, "full")


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_in_place_of_a_file_is_a_clear_error(path: str) -> None:
    with pytest.raises(VistuneError, match=r": Is a directory\n  fix: choose another path"), atomic_text(Path(path)):
        pass


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    append_text(path, "first\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(StorageError, match=r"votes\.jsonl: cannot be written: File too large after 6 bytes\n  fix"):
            append_text(path, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append_text(path, "second\n")
    assert path.read_text() == "first\nsecond\n"

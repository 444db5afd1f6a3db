"""Which stages of a run are finished, and what is kept of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vistune.errors import CheckpointError
from vistune.model.checkpoint import BASE, is_complete, mark_unfinished
from vistune.storage import MANIFEST, find_damage
from vistune.train.resume import keep_newest, newest_state


def unfinished_stages(folders: Sequence[Path]) -> list[int]:
    """Which stages are to be trained, in order, for the last one's checkpoint to be there.

    A checkpoint that is needed (as the result, to start a stage from, as a light one's base) is read and compared
    with its manifest. A damaged one is named on stderr, and its stage goes on from its newest state; raises
    CheckpointError if it has none.
    """
    unfinished = []
    for number in reversed(range(len(folders))):
        finished = _is_finished(folders[number])
        if not finished:
            unfinished.append(number)
        elif not (folders[number] / BASE).exists():
            break  # nothing before it is needed
    return unfinished[::-1]


def _is_finished(folder: Path) -> bool:
    complete = is_complete(folder)
    if not complete and not (folder / MANIFEST).exists():
        return False  # nothing of a checkpoint has come so far
    separate = folder / "adapter"
    damage = find_damage(folder) or (find_damage(separate) if separate.exists() else None)
    if damage is None:
        return True
    state = newest_state(folder / "state")
    if complete and state is None:
        fix = f"restore the file, or delete {folder} to train this stage anew"
        raise CheckpointError(f"damaged checkpoint, and its stage has no state left: {damage}", fix=fix)
    print(f"damaged checkpoint: {damage}; it is made again from {state or 'the start of its stage'}", file=sys.stderr)
    mark_unfinished(folder)
    return False


def check_start(path: Path) -> None:
    """Raises CheckpointError if the checkpoint in `path`, which a run is to start from, is damaged."""
    if (path / MANIFEST).exists() and (damage := find_damage(path)):
        raise CheckpointError(f"the checkpoint to start from is damaged: {damage}")


def tidy(folders: Sequence[Path]) -> None:
    """After the last of these stages is finished: its newest state stays, those of the stages before go.

    A checkpoint found to be damaged is made again from that state.
    """
    keep_newest(folders[-1] / "state", 1)
    for folder in folders[:-1]:
        keep_newest(folder / "state", 0)

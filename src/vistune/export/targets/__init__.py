"""Exporters: what a checkpoint can be exported to. One file each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vistune.errors import VistuneError
from vistune.registry import Registry


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a checkpoint is exported."""

    dtype: str | None = None
    """dtype of the weights; unset: that of the target."""
    allow_framing: bool = False
    """Write a GGUF file though llama.cpp resizes images, or makes them square, in another way."""
    scores: Path | None = None
    """Folder of an evaluation, for the model card."""
    push_to: str | None = None
    """Repository of the hub, OWNER/NAME; unset: nothing is uploaded."""
    public: bool = False
    """Create the repository as a public one."""
    overwrite: bool = False
    """Replace files that are there already."""

    def dtype_of(self, target: str, known: Collection[str], default: str) -> str:
        """The chosen dtype. Raises VistuneError if the target does not have it."""
        if self.dtype is not None and self.dtype not in known:
            fix = f"one of: {', '.join(known)}"
            raise VistuneError(f"weights in {target} cannot be {self.dtype}", where="--dtype", fix=fix)
        return self.dtype or default


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint in memory: float32, adapters merged, a linear projector as one layer."""

    name: str
    """Its folder, or its hub id."""
    model: Any
    processor: Any


class Exporter(Protocol):
    """Writes a checkpoint to the folder `out` and returns the lines that say how it is used.

    Raises CheckpointError if the target cannot hold it, StorageError if the disk is full.
    """

    def __call__(self, opened: Opened, out: Path, options: ExportOptions, /) -> list[str]: ...


exporters: Registry[Exporter] = Registry("target", "vistune.export.targets")

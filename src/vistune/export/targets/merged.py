"""One folder in the layout of transformers: adapters merged, with a model card."""

from __future__ import annotations

from pathlib import Path

import torch

from vistune.errors import CheckpointError
from vistune.export.model_card import model_card
from vistune.export.targets import ExportOptions, Opened, exporters
from vistune.model.checkpoint import is_complete, save_checkpoint
from vistune.storage import atomic_text

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@exporters.register("merged")
def export_merged(opened: Opened, out: Path, options: ExportOptions) -> list[str]:
    """Write the checkpoint that transformers, vLLM and lmms-eval read."""
    dtype = _DTYPES[options.dtype_of("a merged checkpoint", _DTYPES, "f32")]
    if is_complete(out):
        raise CheckpointError("there is a checkpoint already", where=str(out), fix="choose another output folder")
    card = model_card(Path(opened.name), options.scores)
    save_checkpoint(opened.model, opened.processor, out, dtype)
    with atomic_text(out / "README.md") as file:
        file.write(card)
    return [f"vllm serve {out}"]

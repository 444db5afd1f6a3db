"""One folder in the layout of transformers: adapters merged, with a model card."""

from __future__ import annotations

from pathlib import Path

import torch

from vistune.export.model_card import model_card
from vistune.export.targets import ExportOptions, Opened, exporters
from vistune.model.checkpoint import save_checkpoint
from vistune.output_folder import empty_folder
from vistune.storage import atomic_text

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@exporters.register("merged")
def export_merged(opened: Opened, out: Path, options: ExportOptions) -> list[str]:
    """Write the checkpoint that transformers, vLLM and lmms-eval read, into an empty folder."""
    dtype = _DTYPES[options.dtype_of("a merged checkpoint", _DTYPES, "f32")]
    card = model_card(opened.name, options.scores)
    with empty_folder(out, overwrite=options.overwrite), atomic_text(out / "README.md") as file:
        file.write(card)
        file.flush()  # before the weights: a disk that becomes full leaves an empty folder
        save_checkpoint(opened.model, opened.processor, out, dtype)
    return [f"vllm serve {out}"]

"""What is refused before a model's weights are read, whichever part of the package reads them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from assembling import assemble
from vistune.errors import CheckpointError
from vistune.evaluate.models import Prompt, open_model
from vistune.llm import open_client
from vistune.model.backbones import load_language
from vistune.model.checkpoint import load_checkpoint, save_checkpoint


def _pickles(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _shards_elsewhere(folder: Path) -> None:
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "../model.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def _kernel(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "them/attention"}))


def _evaluated(folder: Path) -> None:
    model = open_model(f"hf:{folder}")
    prompt = Prompt((Image.new("RGB", (28, 28)),), "how many dogs", "question 1")
    dict(model.answers([prompt], max_new_tokens=1, batch_size=1))


def _asked(folder: Path) -> None:
    async def work() -> None:
        async with open_client(f"local:{folder}", device="cpu"):
            pass

    asyncio.run(work())


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "checkpoint": ("llava", load_checkpoint), "hf:": ("llava", _evaluated), "local:": ("language", _asked),
    "backbone": ("language", lambda folder: load_language(str(folder))),
}  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_pickles, "its weights are pickles, which may hold code"),
        (_shards_elsewhere, r"it names a file outside of its folder: \.\./model\.safetensors"),
        (_kernel, "it needs code of its own, which is never run: the kernel them/attention"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_pickles_shards_elsewhere_and_kernels_are_refused(
    reader: str, attack: Callable[[Path], None], message: str, backbones: Path, tmp_path: Path
) -> None:
    kind, read = READERS[reader]
    folder = tmp_path / "inside" / "model"
    if kind == "llava":
        parts = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
        save_checkpoint(*parts, folder)
    else:
        shutil.copytree(backbones / "language", folder)
    read(folder)
    attack(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(folder)
    assert caught.value.fix


def test_a_new_assistants_parts_may_be_pickles_if_the_recipe_says_so(backbones: Path, tmp_path: Path) -> None:
    for part in ("vision", "language"):
        _pickles(Path(shutil.copytree(backbones / part, tmp_path / part)))
    names = str(tmp_path / "vision"), str(tmp_path / "language")
    with pytest.raises(CheckpointError, match="its weights are pickles"):
        assemble(*names, projector="linear")
    assert assemble(*names, projector="linear", allow_pickle=True)

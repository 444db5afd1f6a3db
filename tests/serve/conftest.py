from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from assembling import assemble
from vistune.model.checkpoint import save_checkpoint


def save_assistant(backbones: Path, folder: Path, language: str, **keys: Any) -> Path:
    """A checkpoint of tiny random backbones whose images move the answers."""
    parts = str(backbones / "vision"), str(backbones / language)
    model, processor = assemble(*parts, projector="mlp2x_gelu", **keys)
    with torch.no_grad():
        for weight in model.model.multi_modal_projector.parameters():
            weight.mul_(3)
    save_checkpoint(model, processor, folder)
    return folder


@pytest.fixture(scope="session")
def assistants(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by the name of their language model: byte-level BPE with its own template, SentencePiece-like.

    `tiles` is the first with images in tiles.
    """
    folder = tmp_path_factory.mktemp("assistants")
    return {
        "language": save_assistant(backbones, folder / "language", "language"),
        "narrow": save_assistant(backbones, folder / "narrow", "narrow", chat_template="vicuna_v1"),
        "tiles": save_assistant(backbones, folder / "tiles", "language", image_aspect="anyres"),
    }


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three images of noise, of different sizes."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((40, 30), (28, 28), (20, 50))
    pixels = [torch.randint(256, (h, w, 3), generator=generator, dtype=torch.uint8) for w, h in sizes]
    return [Image.fromarray(one.numpy()) for one in pixels]

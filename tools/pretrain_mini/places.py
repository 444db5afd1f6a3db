"""A last lesson of the miniature vision tower: one direction for each row and column of patches.

After the contrastive losses a linear probe names a patch's column, yet it cannot tell the middle of the picture from
the right: the eight columns span few dimensions, and a projector takes long to disentangle them. Here each row and
column gets a direction of its own, orthogonal to the others, and all else in the features stays as it was.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModel

from tools.pretrain_mini.optim import MuonWithAdam
from tools.pretrain_mini.vision import FEATURE_LAYER, GRID, batches, draw_pictures, normalize, save_vision

_LENGTH = 6.0
"""Length of a row's or column's vector; that of a patch's features is about 25."""
_STAYS = 3.0
"""Weight of changes in all other directions."""


def teach_places(folder: Path, *, seed: int, count: int, steps: int, batch: int = 64, lr: float = 2e-3) -> None:
    """Train the tower in `folder` on `count` scenes and replace it, in half precision."""
    torch.manual_seed(seed)
    pictures = draw_pictures(count, seed, processes=os.cpu_count() or 1)
    vision, before = _open(folder), _open(folder)
    width = vision.config.hidden_size
    directions = torch.linalg.qr(torch.randn(width, 2 * GRID)).Q.T  # (16, D)
    cells = torch.arange(GRID * GRID)
    own = torch.cat([F.one_hot(cells // GRID, GRID), F.one_hot(cells % GRID, GRID)], dim=1) - 1 / GRID  # (64, 16)
    optimizer, middle = MuonWithAdam(vision, lr=lr, steps=steps), None
    for step, chosen in enumerate(batches(pictures, batch, steps, np.random.default_rng(seed)), 1):
        pixels = normalize(pictures.pixels[chosen])
        weights = 1 + 9 * torch.from_numpy(pictures.targets.share[chosen])  # (B, 64): few patches show an object
        features = _features(vision, pixels)  # (B, 64, D)
        with torch.no_grad():
            old = _features(before, pixels)
        along = features @ directions.T  # (B, 64, 16)
        if middle is None:
            middle = along.detach().mean((0, 1))
        change = features - old
        change = change - (change @ directions.T) @ directions
        place_loss = _mean((along - middle) / _LENGTH - own, weights)
        change_loss = _mean(change / old.norm(dim=-1).mean(), weights)
        (place_loss + _STAYS * change_loss).backward()
        optimizer.step()
        if step % 50 == 0 or step == steps:
            print(f"places {step}/{steps}  place {place_loss.item():.4f}  change {change_loss.item():.4f}", flush=True)
    save_vision(vision, folder)


def _open(folder: Path) -> CLIPVisionModel:
    vision: CLIPVisionModel = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    vision.set_attn_implementation("eager")  # in bf16 twice as fast as SDPA's CPU kernel
    return vision


def _features(vision: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """Those (B, 64, D) that a projector reads."""
    with torch.autocast("cpu", torch.bfloat16):
        states = vision(pixels, output_hidden_states=True).hidden_states
    features: Tensor = states[FEATURE_LAYER][:, 1:].float()
    return features


def _mean(errors: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of squared lengths; errors (B, 64, N), weights (B, 64)."""
    mean: Tensor = (errors.square().sum(-1) * weights).sum() / weights.sum()
    return mean

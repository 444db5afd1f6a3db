"""A vision tower for images of another size than it was trained with."""

from __future__ import annotations

import copy
from typing import Any

import torch

from vistune.errors import CheckpointError
from vistune.model.families import leading_tokens


def at_image_size(tower: Any, side: int) -> Any:
    """The tower for images of `side` x `side` pixels.

    Its position embeddings are interpolated once as transformers does with `interpolate_pos_encoding=True`, so that
    every engine that reads the checkpoint computes the same. Raises CheckpointError if no patch fits.
    """
    config, patch = copy.deepcopy(tower.config), tower.config.patch_size
    if side == config.image_size:
        return tower
    if side < patch:
        raise CheckpointError(f"the vision tower's patches have {patch} pixels", where=f"model.image_size {side}")
    config.image_size = side
    weights = tower.state_dict()
    name = next((name for name in weights if name.startswith("embeddings.position_embedding")), None)
    if name is not None:  # DINOv3 rotates by position and has none
        places = (side // patch) ** 2 + min(1, leading_tokens(config))
        with torch.no_grad():
            like = weights[name].new_zeros(1, places, config.hidden_size)
            table = tower.embeddings.interpolate_pos_encoding(like, side, side)  # (1, places, V)
        weights[name] = table.reshape(*weights[name].shape[:-2], *table.shape[-2:])
    resized = type(tower)(config)
    resized.load_state_dict(weights)
    return resized

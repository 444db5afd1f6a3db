"""The vision tower's features: the hidden state that the projector reads, and nothing computed after it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vistune.data.image_tokens import ImageGrid
from vistune.data.images import ImageInput
from vistune.errors import CheckpointError
from vistune.model.families import leading_tokens, vision_blocks


class _Reached(Exception):  # noqa: N818 - not an error
    """The forward pass has reached the requested hidden state."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def image_grid(config: Any) -> ImageGrid:
    """How a model of that config reads images. Raises CheckpointError for tiles with features of more than patches."""
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    features = patches + leading_tokens(vision) - (config.vision_feature_select_strategy == "default")
    pinpoints = getattr(config, "image_grid_pinpoints", None) or ()
    if pinpoints and features != patches:
        what = f"tiles have {patches} patches, and the vision tower gives {features} features of each"
        raise CheckpointError(what, where="vision_feature_select_strategy", fix="use a tower without registers")
    return ImageGrid(features, vision.image_size, tuple((int(height), int(width)) for height, width in pinpoints))


def used_blocks(model: Any) -> int:
    """Number of the tower's layers before the hidden state that the projector reads."""
    return int(model.config.vision_feature_layer % (len(vision_blocks(model.model.vision_tower)) + 1))


def vision_features(model: Any, pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) as the features (N, I, V) that the projector reads: one hidden state, chosen by the config.

    The same as transformers' `get_image_features` returns, but the layers after it are not run.
    """
    tower = model.model.vision_tower
    blocks, used = vision_blocks(tower), used_blocks(model)
    states: Tensor
    if used == len(blocks):
        states = tower(pixels, output_hidden_states=True).hidden_states[-1]
    else:
        states = _input_of(blocks[used], tower, pixels)
    return states[:, 1:] if model.config.vision_feature_select_strategy == "default" else states


def _input_of(block: nn.Module, tower: nn.Module, pixels: Tensor) -> Tensor:
    """The input of `block` in the tower's forward pass, which ends there."""

    def stop(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise _Reached(positional[0] if positional else named["hidden_states"])

    hook = block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        tower(pixels)
    except _Reached as reached:
        return reached.states
    finally:
        hook.remove()
    raise RuntimeError("the vision tower's forward pass does not run its layers")


def image_embeddings(model: Any, features: Tensor) -> Tensor:
    """The embeddings (N * I, D) of features (N, I, V), and after them the newline of a model with tiles."""
    embeddings: Tensor = model.model.multi_modal_projector(features).flatten(0, 1)
    newline: Tensor | None = getattr(model.model, "image_newline", None)
    return embeddings if newline is None else torch.cat([embeddings, newline[None].to(embeddings.dtype)])


@torch.inference_mode()
def see(model: Any, images: Sequence[ImageInput]) -> list[Tensor]:
    """Each image as the embeddings (T, D) of its tokens, for answering."""
    crops = torch.cat([image.pixels for image in images])
    parts = crops.split(crops_at_once(model.device))
    features = torch.cat([vision_features(model, part.to(model.device, model.dtype)) for part in parts])
    own = features.split([image.tokens.crops for image in images])
    return [
        image_embeddings(model, one)[torch.from_numpy(image.tokens.order).to(one.device).long()]
        for one, image in zip(own, images, strict=True)
    ]


def crops_at_once(device: torch.device) -> int:
    """Number of images' crops, or of rows with images, in a forward pass: a CPU is faster while states stay in its
    cache."""
    return 1 if device.type == "cpu" else 16


def at_image_size(tower: Any, side: int) -> Any:
    """The tower for images of `side` x `side` pixels.

    Its position embeddings are interpolated once as transformers does with `interpolate_pos_encoding=True`, so that
    every engine that reads the checkpoint computes the same. Raises CheckpointError if no patch fits.
    """
    config, patch = copy.deepcopy(tower.config), tower.config.patch_size
    if side == config.image_size:
        return tower
    if side < patch:
        raise CheckpointError(
            f"the vision tower's patches have {patch} pixels",
            where=f"model.image_size {side}",
            fix=f"a multiple of {patch}",
        )
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

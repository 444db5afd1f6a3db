"""What a stage trains, and the loss that it trains by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vistune.data.collate import Batch
from vistune.model.adapters import lora_parts
from vistune.model.families import vision_blocks
from vistune.model.head import target_loss
from vistune.model.last_layer import LastLayer
from vistune.model.shared_prefix import Layout, use_shared_prefix
from vistune.model.vision import image_embeddings, used_blocks, vision_features
from vistune.recipe.training import Part


def parts(model: LlavaForConditionalGeneration) -> dict[Part, list[nn.Module]]:
    """What the names of a recipe's parts stand for."""
    return {
        "projector": [model.model.multi_modal_projector],
        "language": [model.model.language_model, model.lm_head],
        "vision": [model.model.vision_tower],
        "lora": lora_parts(model),
    }


def freeze(model: LlavaForConditionalGeneration, trains: Collection[Part]) -> None:
    """Only the parts in `trains` keep their gradients; frozen parts are in evaluation mode."""
    model.requires_grad_(False).eval()
    for part in trains:
        for module in parts(model)[part]:
            module.requires_grad_(True).train()
    # what comes after the hidden state that the projector reads never gets a gradient
    vision: Any = model.model.vision_tower
    blocks = vision_blocks(vision)[: used_blocks(model)]
    vision_parts = {id(weight) for block in blocks for weight in block.parameters()}
    for name, weight in vision.named_parameters():
        before = name.startswith(("embeddings.", "pre_layrnorm."))
        weight.requires_grad_(weight.requires_grad and (before or id(weight) in vision_parts))


def checkpoint_layers(model: LlavaForConditionalGeneration, share: float) -> None:
    """Have this share of the language model's layers compute their activations again in the backward pass.

    The last one never does: it would only be computed twice in a row.
    """
    language: Any = model.model.language_model
    if share:
        language.gradient_checkpointing_enable({"use_reentrant": False})
    count = round(share * (len(language.layers) - 1))
    for number, layer in enumerate(language.layers):
        layer.gradient_checkpointing = number < count
        if number < count:
            layer.training = True  # transformers asks for it; the parts of a frozen layer stay in evaluation mode


class TargetLoss(nn.Module):
    """The model with its loss: the cross-entropy summed over the targets of a row of conversation groups.

    `keep` is given the names and features (N, I, V) of images that a frozen vision tower saw. With `in_place`, the two
    gradients that have a row for every word of the vocabulary are added to what is there, not copied first: only for a
    single process, as several exchange each gradient when it is complete.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, keep: Callable[[Sequence[str], Tensor], None] | None = None,
        *, in_place: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self._keep, self._in_place = model, keep, in_place
        use_shared_prefix(model.model.language_model)
        self._last_layer = LastLayer(model.model.language_model)

    def forward(self, batch: Batch, scale: float = 1.0) -> Tensor:
        """The sum times `scale`, in float32."""
        model: Any = self.model
        if self._in_place:
            self._make_room()
        embeds = model.get_input_embeddings()(batch.input_ids)  # (N, D)
        features = [one for one in (batch.features, self._see(batch)) if one is not None]  # (images, I, V) together
        if features:
            ordered = torch.cat(features)[batch.image_order]
            chosen = image_embeddings(model, ordered).flatten(0, 1)[batch.image_from]  # (M, D)
            embeds = embeds.index_copy(0, batch.image_at, chosen.to(embeds.dtype))
        rows = batch.predict_at.unique()  # (R); the end of a shared beginning may predict a target of every branch
        with self._last_layer.at(rows):
            states = model.model.language_model(
                inputs_embeds=embeds[None],
                position_ids=batch.position_ids[None],
                use_cache=False,
                layout=Layout(batch.segments, batch.position_ids),
            ).last_hidden_state[0]  # (N, D)
        loss = target_loss(model, states[batch.predict_at], batch.targets, scale, in_place=self._in_place)
        if not features:  # processes wait for each other's gradients, so all that is trained needs some
            unused = (*model.model.multi_modal_projector.parameters(), *model.model.vision_tower.parameters())
            loss = loss + 0 * sum(weight.sum() for weight in unused if weight.requires_grad)
        return loss

    def _make_room(self) -> None:
        """The gradients of head and embeddings, to add to: the embeddings' own are sparse, one row for each token."""
        embeddings: Any = self.model.get_input_embeddings()
        embeddings.sparse = True
        for weight in {self.model.lm_head.weight, embeddings.weight}:
            if weight.requires_grad and weight.grad is None and torch.is_grad_enabled():
                weight.grad = torch.zeros_like(weight)

    def _see(self, batch: Batch) -> Tensor | None:
        """What the vision tower makes of the batch's pixels (N, I, V)."""
        pixels, model = batch.pixel_values, self.model
        if pixels is None:
            return None
        if any(weight.requires_grad for weight in model.model.vision_tower.parameters()):
            return vision_features(model, pixels)
        # one at a time on a CPU: as fast, and the features do not depend on which images come together
        parts = pixels.split(1) if pixels.device.type == "cpu" else [pixels]
        features = torch.cat([vision_features(model, part) for part in parts])
        if self._keep is not None:
            self._keep(batch.names, features)
        return features

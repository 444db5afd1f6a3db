"""What a stage trains, and the loss that it trains by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from vistune.data.collate import IGNORED
from vistune.recipe import Part


def freeze(model: LlavaForConditionalGeneration, trains: Collection[Part]) -> None:
    """Only the parts in `trains` keep their gradients; frozen parts are in evaluation mode."""
    vision: Any = model.model.vision_tower
    parts: dict[Part, list[nn.Module]] = {
        "projector": [model.model.multi_modal_projector],
        "language": [model.model.language_model, model.lm_head],
        "vision": [vision],
    }
    model.requires_grad_(False).eval()
    for part in trains:
        for module in parts[part]:
            module.requires_grad_(True).train()
    # what comes after the hidden state that the projector reads never gets a gradient
    config: Any = model.config
    states = len(vision.encoder.layers) + 1
    for unused in (*vision.encoder.layers[config.vision_feature_layer % states :], vision.post_layernorm):
        unused.requires_grad_(False)


class TargetLoss(nn.Module):
    """The model with its loss: the cross-entropy summed over the target tokens of a right-padded batch.

    No attention mask is needed: padding comes after all real tokens, which under causal attention never see it,
    and attention without a mask takes the fast path. Logits are computed where there is a target only.
    """

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, labels: Tensor, pixel_values: Tensor | None) -> Tensor:
        """input_ids and labels (B, S), pixel_values (N, 3, H, W); returns the sum, in float32."""
        output = self.model.model(input_ids=input_ids, pixel_values=pixel_values, use_cache=False)
        states: Tensor = output.last_hidden_state[:, :-1].flatten(0, 1)  # (B * (S - 1), D)
        following = labels[:, 1:].flatten()
        targets = (following != IGNORED).nonzero().flatten()  # (T)
        logits = self.model.lm_head(states.index_select(0, targets))  # (T, V)
        loss = F.cross_entropy(logits.float(), following[targets], reduction="sum")
        if pixel_values is None:  # processes wait for each other's gradients of the projector, so it needs some
            loss = loss + 0 * sum(weight.sum() for weight in self.model.model.multi_modal_projector.parameters())
        return loss

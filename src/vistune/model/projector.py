"""What maps image features to the language model's embeddings.

`mlp2x_gelu` (LLaVA-1.5) is transformers' own two layers. The paper's `linear` trains as one layer W and is
saved as two, which compute the same function, because that is what the checkpoint's layout knows:

- D >= 2 V (text width D, vision width V; all CLIP + Llama pairs of the paper): gelu(x) - gelu(-x) = x, so
  linear_1 = [I; -I; 0] and linear_2 = [W, -W, 0]. transformers and vLLM read it.
- else linear_1 = W, linear_2 = I and the activation `linear`. transformers reads it, vLLM does not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ProjectorKind = Literal["linear", "mlp2x_gelu"]
MARK = "vistune_projector"
"""The key of config.json that says which kind the two saved layers are."""


class LinearProjector(nn.Module):
    """The paper's projector: one linear layer, (…, V) -> (…, D)."""

    def __init__(self, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(vision_width, text_width)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear(features)
        return projected


def saved_activation(kind: ProjectorKind, vision_width: int, text_width: int) -> str:
    """`projector_hidden_act` of the checkpoint."""
    return "gelu" if kind == "mlp2x_gelu" or text_width >= 2 * vision_width else "linear"


def saved_weights(projector: nn.Module) -> dict[str, Tensor]:
    """The weights of linear_1 and linear_2 that a checkpoint holds, for a projector of either kind."""
    if isinstance(projector, LinearProjector):
        return _two_layers(projector)
    return {name: weight.detach().contiguous() for name, weight in projector.state_dict().items()}


def _two_layers(projector: LinearProjector) -> dict[str, Tensor]:
    """The weights of linear_1 (D, V) and linear_2 (D, D) that compute the same as `projector`."""
    weight, bias = projector.linear.weight.detach(), projector.linear.bias.detach()
    text, vision = weight.shape
    zero, first, second = torch.zeros_like(bias), torch.zeros_like(weight), weight.new_zeros(text, text)
    if text >= 2 * vision:
        one = torch.eye(vision, dtype=weight.dtype, device=weight.device)
        first[:vision], first[vision : 2 * vision] = one, -one
        second[:, :vision], second[:, vision : 2 * vision] = weight, -weight
        biases = zero, bias
    else:
        first, second = weight, torch.eye(text, dtype=weight.dtype, device=weight.device)
        biases = bias, zero
    return {
        "linear_1.weight": first.contiguous(), "linear_1.bias": biases[0].clone(),
        "linear_2.weight": second.contiguous(), "linear_2.bias": biases[1].clone(),
    }  # fmt: skip


def as_one_layer(two: nn.Module) -> LinearProjector:
    """The single layer that was saved as these two, bit for bit."""
    weights = two.state_dict()
    text, vision = weights["linear_1.weight"].shape
    with weights["linear_1.weight"].device:
        projector = LinearProjector(vision, text)
    wide = text >= 2 * vision
    with torch.no_grad():
        projector.linear.weight.copy_(weights["linear_2.weight"][:, :vision] if wide else weights["linear_1.weight"])
        projector.linear.bias.copy_(weights["linear_2.bias" if wide else "linear_1.bias"])
    return projector

"""The floating-point operations of a stage's matrix products, for our forward pass and for the plain one.

A product with a matrix of P weights takes 2 P operations per token forward, as many for the gradient of its input, and
as many for the gradient of its weights. Only products count. (torch's FlopCounterMode needs a real pass, and counts an
attention without its mask; a test compares the rest with it.)
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vistune.data.collate import Batch, image_tokens
from vistune.data.encode import Sample
from vistune.data.groups import Group
from vistune.data.image_tokens import ImageTokens
from vistune.model.families import leading_tokens, vision_blocks
from vistune.model.last_layer import row_wise_parts
from vistune.model.vision import used_blocks
from vistune.recipe.training import Part
from vistune.resources import load_yaml

_LONG = 0.1
"""Seconds of a product after which no larger one is measured."""


@dataclass(frozen=True, slots=True)
class Work:
    """The amounts that pass through the model."""

    crops: int  # of images, that the vision tower encodes
    features: int  # that the projector reads
    tokens: int  # in the language model's layers
    pairs: int  # of a token and one that it attends to, itself included
    logits: int  # rows of the head's output

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


NO_WORK = Work(0, 0, 0, 0, 0)


def our_work(groups: Iterable[Group]) -> Work:
    """The work of conversation groups as training packs them, each group's images once."""
    total = NO_WORK
    for group in groups:
        branches = [len(sample.input_ids) - group.shared for sample in group.samples]
        pairs = _causal(group.shared) + sum(own * group.shared + _causal(own) for own in branches)
        logits = sum(int(sample.targets[1:].sum()) for sample in group.samples)
        total += Work(*_seen(image_tokens([group]).values()), group.length, pairs, logits)
    return total


def work_of(batch: Batch) -> Work:
    """The work of a row of conversation groups; images with cached features do not pass through the tower."""
    pairs = sum(
        _causal(one.shared) + sum(own * one.shared + _causal(own) for own in one.branches) for one in batch.segments
    )
    features = int(batch.image_from.max()) + 1 if len(batch.image_from) else 0
    return Work(len(batch.names), features, len(batch.input_ids), pairs, len(batch.targets))


def plain_work(batches: Iterable[Sequence[Sample]]) -> Work:
    """The work of the same conversations one per row, each batch padded to its longest, with all logits."""
    total = NO_WORK
    for batch in batches:
        longest = max(len(sample.input_ids) for sample in batch)
        images, tokens = [one for sample in batch for one in sample.image_tokens], len(batch) * longest
        total += Work(*_seen(images), tokens, len(batch) * _causal(longest), tokens)
    return total


def _seen(images: Collection[ImageTokens]) -> tuple[int, int]:
    return sum(one.crops for one in images), sum(one.features for one in images)


def _causal(length: int) -> int:
    return length * (length + 1) // 2


def flops(
    model: LlavaForConditionalGeneration, trains: Collection[Part], work: Work, *, whole_tower: bool = False,
    whole_last_layer: bool = False, reference: bool = False,
) -> dict[Part | str, float]:  # fmt: skip
    """The operations of one pass forward and back over `work`, by part: vision, projector, language, attention, head.

    `whole_tower`: the tower's layers after the hidden state that the projector reads are run, too; `whole_last_layer`:
    the language model's last layer is run for tokens that predict nothing, too; `reference`: the language model is run
    once more without a backward pass (DPO).
    """
    config: Any = model.config
    text, vision = config.text_config, config.vision_config
    tower: Any = model.model.vision_tower
    patches = (vision.image_size // vision.patch_size) ** 2 + leading_tokens(vision)
    blocks = list(vision_blocks(tower))[: None if whole_tower else used_blocks(model)]
    in_tower = patches * (_matrices(blocks) + 3 * vision.patch_size**2 * vision.hidden_size)
    in_tower += 2 * len(blocks) * patches**2 * vision.hidden_size  # the attention's two products
    language: Any = model.model.language_model
    layers, head = work.tokens * _matrices([language]), model.lm_head.weight.numel()
    if not whole_last_layer:
        layers -= (work.tokens - work.logits) * _matrices(row_wise_parts(language.layers[-1]))
    wide = text.num_attention_heads * getattr(text, "head_dim", text.hidden_size // text.num_attention_heads)
    moving = sum(any(weight.requires_grad for weight in block.parameters()) for block in blocks) / max(1, len(blocks))
    below = {"vision", "projector"} & set(trains)  # something before the language model is trained
    forward: dict[str, tuple[float, float]] = {
        "vision": (work.crops * in_tower, 1 + 2 * moving if "vision" in trains else 1),
        "projector": (work.features * _matrices([model.model.multi_modal_projector]), 3 if below else 1),
        "language": (layers, 3 + reference if "language" in trains else 2 + reference),
        "attention": (2 * work.pairs * wide * text.num_hidden_layers, 3 + reference),
        "head": (work.logits * head, 3 + reference if "language" in trains else 2 + reference),
    }
    operations: dict[Part | str, float] = {part: 2.0 * products * n for part, (products, n) in forward.items()}
    return operations


def _matrices(modules: Iterable[nn.Module]) -> int:
    """The weights of all linear layers in the modules, adapters left out."""
    return sum(
        layer.in_features * layer.out_features  # of packed four bits, too
        for module in modules
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and ".lora_" not in name
    )


def known_peak(device: torch.device) -> float | None:
    """The operations per second of 16-bit matrix products that the GPU's data sheet promises; None where unknown."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(gpu: str) -> float | None:
    """The same by the name that the driver gives, such as NVIDIA A100-SXM4-80GB (gpus.yaml)."""
    words = set(gpu.replace("-", " ").split())
    peaks = load_yaml("vistune.train", "gpus.yaml").items()
    return next((1e12 * peak for name, peak in peaks if words.issuperset(name.split())), None)


def measured_peak(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """The operations per second of a large matrix product on this device, the best of several.

    A CPU without instructions for bf16 would need minutes for the largest product: it stops at a smaller one.
    """
    for size in (256, 512, 1024, 2048):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        best = min(_seconds(a, b) for _ in range(4))
        if best > _LONG:
            break
    return 2 * size**3 / best


def _seconds(a: Tensor, b: Tensor) -> float:
    start = time.perf_counter()
    (a @ b)[0, 0].item()  # waits for the device
    return time.perf_counter() - start

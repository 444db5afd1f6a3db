"""Samples as one right-padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from vistune.data.encode import Sample

IGNORED = -100
"""The label of a position that is no target (PyTorch's and transformers' convention)."""


class Batch(TypedDict):
    """What `LlavaForConditionalGeneration` takes."""

    input_ids: Tensor
    """(B, S)"""
    attention_mask: Tensor
    """(B, S), 0 where padded"""
    labels: Tensor
    """(B, S), -100 where no target"""
    pixel_values: Tensor | None
    """(N, 3, H, W), the N samples with an image, in order"""


def collate(samples: Sequence[Sample], pixels: Sequence[Tensor], pad_id: int) -> Batch:
    """The batch of `samples`; `pixels` holds (3, H, W) for each sample that has an image."""
    shape = len(samples), max(len(sample.input_ids) for sample in samples)
    ids = torch.full(shape, pad_id)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, sample in enumerate(samples):
        length = len(sample.input_ids)
        own = torch.from_numpy(sample.input_ids).long()
        ids[row, :length] = own
        mask[row, :length] = 1
        labels[row, :length] = own.masked_fill(~torch.from_numpy(sample.targets), IGNORED)
    return Batch(
        input_ids=ids, attention_mask=mask, labels=labels, pixel_values=torch.stack(list(pixels)) if pixels else None
    )

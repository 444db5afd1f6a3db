"""The loss on validation data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import nn

from vistune.data.collate import Batch, collate
from vistune.data.dataset import Dataset
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore
from vistune.data.loader import one_ahead, share_out
from vistune.recipe.training import StageRecipe


class Validation:
    """The mean loss over all target tokens of a validation data set; computing it does not change the training."""

    def __init__(
        self, dataset: Dataset, images: ImageStore, stage: StageRecipe, accelerator: Accelerator, *, bf16: bool
    ) -> None:
        self._dataset, self._images, self._accelerator, self._bf16 = dataset, images, accelerator, bf16
        self._size = stage.micro_batch_size * accelerator.num_processes

    def loss(self, module: nn.Module) -> float:
        """The loss, the same in all processes, which have to call this together. Raises DataError for an image."""
        device = self._accelerator.device
        summed, targets = 0.0, 0
        with _evaluating(module), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            for batch, counts in one_ahead(self._batch, range(0, len(self._dataset), self._size)):
                if batch is not None:
                    summed += counts * float(module(batch.to(device)))
                    targets += counts * len(batch.targets)
        summed, targets = self._accelerator.reduce(torch.tensor([summed, targets], device=device), "sum").tolist()
        return float(summed / targets)

    def _batch(self, start: int) -> tuple[Batch | None, int]:
        """This process's part of the samples from `start`, and 1; or another's and 0, as all have to compute one."""
        indices = range(start, min(start + self._size, len(self._dataset)))
        samples = [sample for index in indices if (sample := self._dataset.get(index)) is not None]
        if not samples:
            return None, 0
        rank, world = self._accelerator.process_index, self._accelerator.num_processes
        parts = share_out(make_groups(samples), min(world, len(samples)))
        return collate(parts[rank % len(parts)], self._images.get), int(rank < len(parts))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and then each part in its own mode again: a frozen one stays in evaluation."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True

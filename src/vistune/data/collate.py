"""Groups of samples as one row without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistune.data.groups import Group
from vistune.data.image_tokens import NEWLINE, ImageTokens


@dataclass(frozen=True, slots=True)
class Segment:
    """A group in a row: its `shared` tokens, then each branch's own."""

    shared: int
    branches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups one after the other: N tokens, of which M are an image's, and T targets.

    Images are in the order of their first places, with known features or not: sums are then equal to the last bit.
    Each has C crops, one if the model has no tiles; N crops are those of several images.
    """

    segments: tuple[Segment, ...]
    input_ids: Tensor  # (N)
    position_ids: Tensor  # (N), those of each conversation by itself
    image_at: Tensor  # (M), where in the row an image's tokens are
    image_from: Tensor  # (M), the feature that goes there, numbered through all images; -1: the model's newline
    predict_at: Tensor  # (T), the tokens whose states predict the targets
    targets: Tensor  # (T)
    answer_of: Tensor  # (T), the conversation that each target is of, numbered through the row
    features: Tensor | None  # (known crops, I, V), a frozen vision tower's features
    pixel_values: Tensor | None  # (other crops, 3, H, W)
    names: tuple[str, ...]  # of the image of each crop in `pixel_values`
    crop_order: Tensor  # (crops), the place of each among the known crops followed by the others

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; what is pinned is copied while the device computes."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pinned(self) -> Batch:
        """The batch in memory that a GPU reads by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **changed)


def collate(groups: Sequence[Group], read: Callable[[str, int], Tensor]) -> Batch:
    """The row of `groups`; `read` gives features (C, I, V) or pixels (C, 3, H, W) by an image's name and its C.

    Put together by NumPy: in the loader's thread, torch would start a second team of threads, and with more threads
    than cores each of the training's products waits for its own.
    """
    segments: list[Segment] = []
    ids: list[Any] = []
    positions: list[Any] = []
    image_at: list[Any] = []
    image_from: list[Any] = []
    predict_at: list[Any] = []
    targets: list[Any] = []
    answer_of: list[Any] = []
    tokens = image_tokens(groups)
    images = {name: read(name, one.crops) for name, one in tokens.items()}
    known = [name for name, one in images.items() if one.ndim == 3]
    unknown = [name for name, one in images.items() if one.ndim == 4]
    sources = dict(zip(tokens, _numbered(tokens.values()), strict=True))
    offset = 0
    for group in groups:
        own = [len(sample.input_ids) - group.shared for sample in group.samples]
        segments.append(Segment(group.shared, tuple(own)))
        for index, sample in enumerate(group.samples):
            first = 0 if index == 0 else group.shared  # what is shared is written by the first sample
            ids.append(sample.input_ids[first:])
            positions.append(np.arange(first, len(sample.input_ids)))
            if sample.images:
                features = np.concatenate([sources[name] for name in sample.images])  # (M)
                kept = sample.image_at >= first
                image_at.append(sample.image_at[kept] - first + offset)
                image_from.append(features[kept])
            learned = np.flatnonzero(sample.targets[1:]) + 1  # nothing predicts the first token
            predict_at.append(learned - 1 - first + offset)
            targets.append(sample.input_ids[learned])
            answer_of.append(np.full(len(learned), len(answer_of)))
            offset += len(sample.input_ids) - first
    return Batch(
        tuple(segments), _join(ids), _join(positions), _join(image_at), _join(image_from), _join(predict_at),
        _join(targets), _join(answer_of), _crops(known, images), _crops(unknown, images),
        tuple(name for name in unknown for _ in range(tokens[name].crops)), _crop_order(known + unknown, tokens),
    )  # fmt: skip


def image_tokens(groups: Iterable[Group]) -> dict[str, ImageTokens]:
    """The tokens of the groups' images by name, each once, in the order of their first places."""
    return {
        name: tokens
        for group in groups
        for sample in group.samples
        for name, tokens in zip(sample.images, sample.image_tokens, strict=True)
    }


def _numbered(images: Iterable[ImageTokens]) -> Iterator[Any]:
    """The order of each image's tokens, its features numbered through all images."""
    before = 0
    for one in images:
        yield np.where(one.order == NEWLINE, NEWLINE, one.order + before)
        before += one.features


def _crop_order(names: Sequence[str], tokens: Mapping[str, ImageTokens]) -> Tensor:
    """Where each crop of the images in `tokens`, in order, is among the crops of `names`, the same images."""
    place = {name: number for number, name in enumerate(tokens)}
    order = np.array([place[name] for name in names for _ in range(tokens[name].crops)])
    return _join([order.argsort(kind="stable")])


def _crops(names: Sequence[str], images: Mapping[str, Tensor]) -> Tensor | None:
    if not names:
        return None
    rows = [images[name].contiguous().view(torch.uint8).numpy() for name in names]
    return torch.from_numpy(np.concatenate(rows)).view(images[names[0]].dtype)


def _join(parts: list[Any]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)) if parts else torch.empty(0, dtype=torch.long)

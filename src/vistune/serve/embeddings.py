"""A prompt's tokens as the language model reads them: embeddings, its images' among them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistune.model.vision import see
from vistune.serve.images import Picture
from vistune.serve.jobs import Counters, Job

_KEPT = 64
"""Number of images whose embeddings are kept."""


class PromptEmbeddings:
    """Embeds prompts for one model; an image is encoded once, as long as its embeddings are kept."""

    def __init__(self, model: Any, counters: Counters) -> None:
        self._model, self._counters = model, counters
        self._image_id = model.config.image_token_id
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def symbols(self, job: Job) -> list[int]:
        """The prompt's tokens as the cache compares them: an image's stand for its pixels."""
        of_images = (-1 - picture.key - place for picture in job.pictures for place in range(len(picture.tokens)))
        return [next(of_images) if token == self._image_id else token for token in job.ids]

    def embed(self, job: Job, start: int, count: int) -> Tensor:
        """The embeddings (count, D) of a prompt's tokens from `start` on."""
        ids = torch.tensor(job.ids[start : start + count], device=self._model.device)
        states: Tensor = self._model.get_input_embeddings()(ids)
        where = ids == self._image_id
        if images := int(where.sum()):
            before = job.ids[:start].count(self._image_id)
            ends = np.cumsum([len(picture.tokens) for picture in job.pictures])
            first, last = np.searchsorted(ends, [before, before + images - 1], side="right")
            features = torch.cat(self._see(job.pictures[first : last + 1]))
            skip = before - (ends[first - 1] if first else 0)
            states[where] = features[skip : skip + images].to(states.dtype)
        return states

    def _see(self, pictures: Sequence[Picture]) -> list[Tensor]:
        """The embeddings (T, D) of each image's tokens."""
        new = {picture.key: picture for picture in pictures if picture.key not in self._kept}
        self._counters.images_encoded += len(new)
        self._counters.images_reused += len(pictures) - len(new)
        if new:
            self._kept |= zip(new, see(self._model, list(new.values())), strict=True)
        for picture in pictures:
            self._kept.move_to_end(picture.key)
        features = [self._kept[picture.key] for picture in pictures]
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return features

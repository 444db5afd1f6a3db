"""A prompt's tokens as the language model reads them: embeddings, its images' among them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from vistune.model.assemble import image_token_count
from vistune.model.decode import rows_at_once
from vistune.model.vision import see
from vistune.serve.images import Picture
from vistune.serve.jobs import Counters, Job

_KEPT = 64
"""Number of images whose embeddings are kept."""


class PromptEmbeddings:
    """Embeds prompts for one model; an image is encoded once, as long as its embeddings are kept."""

    def __init__(self, model: Any, counters: Counters) -> None:
        self._model, self._counters = model, counters
        self._image_id, self._size = model.config.image_token_id, image_token_count(model.config)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def symbols(self, job: Job) -> list[int]:
        """The prompt's tokens as the cache compares them: an image's stand for its pixels."""
        symbols, seen = [], 0
        for token in job.ids:
            if token == self._image_id:
                picture, place = divmod(seen, self._size)
                token, seen = -1 - job.pictures[picture].key - place, seen + 1
            symbols.append(token)
        return symbols

    def embed(self, job: Job, start: int, count: int) -> Tensor:
        """The embeddings (count, D) of a prompt's tokens from `start` on."""
        ids = torch.tensor(job.ids[start : start + count], device=self._model.device)
        states: Tensor = self._model.get_input_embeddings()(ids)
        where = ids == self._image_id
        if images := int(where.sum()):
            before = job.ids[:start].count(self._image_id)
            first, last = before // self._size, (before + images - 1) // self._size
            features = torch.cat(self._see(job.pictures[first : last + 1]))
            skip = before - first * self._size
            states[where] = features[skip : skip + images].to(states.dtype)
        return states

    def _see(self, pictures: Sequence[Picture]) -> list[Tensor]:
        """The images' embeddings (I, D)."""
        new = {picture.key: picture for picture in pictures if picture.key not in self._kept}
        self._counters.images_encoded += len(new)
        self._counters.images_reused += len(pictures) - len(new)
        for some in _parts(list(new.values()), rows_at_once(self._model.device)):
            encoded = see(self._model, torch.stack([picture.pixels for picture in some]))
            self._kept |= zip((picture.key for picture in some), encoded, strict=True)
        for picture in pictures:
            self._kept.move_to_end(picture.key)
        features = [self._kept[picture.key] for picture in pictures]
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return features


def _parts(pictures: list[Picture], size: int) -> Iterable[list[Picture]]:
    return (pictures[start : start + size] for start in range(0, len(pictures), size))

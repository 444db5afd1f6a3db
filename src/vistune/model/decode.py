"""Greedy decoding of a batch, and the likelihood of given answers; what several prompts have in common is run once.

Prompts about the same images are branches of one row of the key-value cache. A row begins with the images' tokens,
which all of its branches see; after them come the branches' own tokens. Each token has the position it has in its own
prompt and attends to what precedes it there, so the states are those of each prompt by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, DynamicCache, LlavaForConditionalGeneration
from transformers.cache_utils import DynamicLayer

from vistune.model.linear_cross_entropy import linear_cross_entropy
from vistune.model.vision import crops_at_once

_Path = tuple[int, ...]
"""A branch: (prompt,), or (prompt, choice) for an answer to it."""
_PADDING = (0, -1, -1, 0)
"""A token of a branch of its own."""


@dataclass(frozen=True, slots=True)
class PromptIds:
    """Token ids, with the images' tokens, and which images they stand for, in order."""

    ids: list[int]
    images: tuple[int, ...]


@torch.inference_mode()
def greedy(
    model: LlavaForConditionalGeneration, prompts: Sequence[PromptIds], features: Sequence[Tensor], max_new_tokens: int
) -> Iterator[list[tuple[int, int]]]:
    """Decode; yields, for each token written, the (prompt's index, token id) of all prompts not finished before.

    `features` holds the embeddings (T, D) of each image's tokens. All prompts have as many images, of as many tokens,
    and the same words before and between them.
    A prompt is finished by an end-of-sequence token, which is yielded, too.
    """
    generation: Any = model.generation_config
    stop = set(torch.tensor(generation.eos_token_id).reshape(-1).tolist())
    tree = _Tree(model, prompts, features)
    unread: dict[_Path, list[int]] = {(index,): prompt.ids[tree.shared :] for index, prompt in enumerate(prompts)}
    for _ in range(max_new_tokens):
        last = torch.stack([states[-1] for states in tree.read(unread)])  # (B, D)
        tokens: list[int] = model.lm_head(last).argmax(-1).tolist()
        yield [(index, token) for (index,), token in zip(unread, tokens, strict=True)]
        unread = {path: [token] for path, token in zip(unread, tokens, strict=True) if token not in stop}
        if not unread:
            return


@torch.inference_mode()
def likelihoods(
    model: LlavaForConditionalGeneration, prompts: Sequence[PromptIds], features: Sequence[Tensor],
    choices: Sequence[Sequence[list[int]]],
) -> list[list[float]]:  # fmt: skip
    """The log-likelihood of each choice's tokens after its prompt; all choices of all prompts in one forward pass.

    `prompts` and `features` are as for `greedy`; `choices` holds the token ids of each prompt's choices.
    """
    tree = _Tree(model, prompts, features)
    ends = [states[-1:] for states in tree.read({(i,): prompt.ids[tree.shared :] for i, prompt in enumerate(prompts)})]
    answers: dict[_Path, list[int]] = {(i, j): ids for i, own in enumerate(choices) for j, ids in enumerate(own)}
    found: list[list[float]] = [[] for _ in prompts]
    for ((i, _), ids), states in zip(answers.items(), tree.read(answers), strict=True):
        before = torch.cat([ends[i], states[:-1]])  # (T, D): what predicts each of the tokens
        targets = torch.tensor(ids, device=model.device)
        found[i].append(-float(linear_cross_entropy(model, before, targets)))
    return found


class _Tree:
    """The key-value cache of a batch: a row for each tuple of images, with branches that may branch again.

    A token's labels are its path, counted from 1, with 0 for all: it sees the earlier tokens whose labels are its own
    or 0.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, prompts: Sequence[PromptIds], features: Sequence[Tensor]
    ) -> None:
        self._model, self._language = model, model.model.language_model
        keys = [prompt.images or (-1 - i,) for i, prompt in enumerate(prompts)]  # without images: a row of its own
        rows = {images: row for row, images in enumerate(dict.fromkeys(keys))}
        self._rows = [rows[images] for images in keys]
        self.shared = _shared(prompts, model.config.image_token_id)
        """Number of first tokens that all prompts of a row share: up to their images' last."""
        self._ends: dict[_Path, int] = {(): self.shared}  # tokens read, by path
        self._cache = Cache(layer_class_to_replicate=_Layer)
        self._seen = torch.zeros(len(rows), self.shared, 3, dtype=torch.long, device=model.device)  # labels, position
        self._seen[..., 2] = torch.arange(self.shared, device=model.device)
        if self.shared:
            of_rows = [torch.cat([features[image] for image in images]) for images in rows]
            self._read_images(prompts[0].ids[: self.shared], torch.stack(of_rows))

    def read(self, pieces: Mapping[_Path, list[int]]) -> list[Tensor]:
        """The states (T, D) of the next tokens of each branch. Rows without any are dropped."""
        paths: dict[int, list[_Path]] = defaultdict(list)
        for path in pieces:
            paths[self._rows[path[0]]].append(path)
        self._keep(sorted(paths))
        lines: list[list[tuple[int, ...]]] = []
        places: dict[_Path, tuple[int, slice]] = {}
        for row in sorted(paths):
            line: list[tuple[int, ...]] = []  # each token's id, labels and position
            for path in paths[row]:
                start = self._ends.get(path, self._ends.get(path[:-1], self.shared))
                labels = *(number + 1 for number in path), *[0] * (2 - len(path))
                places[path] = len(lines), slice(len(line), len(line) + len(pieces[path]))
                line += [(token, *labels, start + at) for at, token in enumerate(pieces[path])]
                self._ends[path] = start + len(pieces[path])
            lines.append(line)
        width = max(map(len, lines))
        padded = [line + [_PADDING] * (width - len(line)) for line in lines]
        states = self._forward(torch.tensor(padded, device=self._model.device))
        return [states[places[path]] for path in pieces]

    def _forward(self, tokens: Tensor) -> Tensor:
        """The states (R, S, D) of the rows' next tokens (R, S, 4)."""
        embed: Any = self._model.get_input_embeddings()
        embeds, new = embed(tokens[..., 0]), tokens[..., 1:]
        self._seen = torch.cat([self._seen, new], dim=1)  # (R, K, 3)
        mask = self._mask(new, embeds.dtype)
        # by position: transformers 5.24 names the cache `cache`, earlier versions `past_key_values`
        output = self._language(None, mask, new[..., 2], self._cache, embeds, use_cache=True)
        states: Tensor = output.last_hidden_state
        return states

    def _mask(self, new: Tensor, dtype: torch.dtype) -> Any:
        """What the new tokens see, (R, 1, S, K), 0 or minus infinity; by the type of layer if the model has several."""
        config: Any = self._language.config
        asking, seen = new[:, :, None], self._seen[:, None]  # (R, S, 1, 3), (R, 1, K, 3)
        distance = asking[..., 2] - seen[..., 2]
        visible = ((seen[..., :2] == 0) | (seen[..., :2] == asking[..., :2])).all(-1) & (distance >= 0)
        window = getattr(config, "sliding_window", None)
        near = visible if window is None else visible & (distance < window)

        def additive(seen: Tensor) -> Tensor:
            return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]

        types = set(getattr(config, "layer_types", None) or ())
        if len(types) > 1:
            return {"full_attention": additive(visible), "sliding_attention": additive(near)}
        return additive(visible if types == {"full_attention"} else near)

    def _read_images(self, ids: list[int], features: Tensor) -> None:
        """Fill the cache with what each row begins with; features (R, T, D) are those of its images."""
        embed: Any = self._model.get_input_embeddings()
        tokens = torch.tensor(ids, device=self._model.device)
        at = tokens == self._model.config.image_token_id
        caches = []
        for rows in features.split(crops_at_once(features.device)):
            states = embed(tokens).repeat(len(rows), 1, 1)  # (r, P, D)
            states[:, at] = rows.to(states.dtype)
            caches.append(DynamicCache())
            self._language(None, None, None, caches[-1], states, use_cache=True)
        for number, layer in enumerate(zip(*caches, strict=True)):
            keys, values, *_ = zip(*layer, strict=True)
            self._cache.update(torch.cat(keys), torch.cat(values), number)

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._seen):
            return
        self._seen = self._seen[rows]
        self._cache.batch_select_indices(torch.tensor(rows, device=self._model.device))
        self._rows = [rows.index(row) if row in rows else -1 for row in self._rows]


class _Layer(DynamicLayer):
    """A layer's keys and values with room behind them: tokens are added without a copy of all that are there."""

    _room: list[Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add the states (B, G, S, d) of new tokens; returns those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = [key_states[:, :, :0], value_states[:, :, :0]]
        start, size = self.get_seq_length(), key_states.shape[2]
        if start + size > self._room[0].shape[2]:
            more = size + (start + size) // 4 + 64
            self._room = [F.pad(room[:, :, :start], (0, 0, 0, more)) for room in self._room]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start : start + size] = states
        return self._show(start + size)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        length = self.get_seq_length()
        self._room = [room[indices] for room in self._room]
        self._show(length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = (room[:, :, :length] for room in self._room)
        self.keys, self.values = keys, values
        return keys, values


def _shared(prompts: Sequence[PromptIds], image_id: int) -> int:
    if not prompts[0].images:
        return 0
    first = prompts[0].ids
    length = len(first) - first[::-1].index(image_id)
    assert all(prompt.ids[:length] == first[:length] for prompt in prompts), "prompts differ before their images"
    return length

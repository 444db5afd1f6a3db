"""The key-value cache of a running batch: one row for each sequence, where token i of the sequence stands at place i.

Rows are left-aligned, so sequences of any length join and leave without padding, and the first tokens of one row can
be copied to another. The first rows are those of the running batch; the others keep finished sequences, whose first
tokens a later request may have in common with them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from vistune.errors import CheckpointError

_MASKS = {"full_attention", "sliding_attention"}


@dataclass(eq=False, slots=True)
class Row:
    """A row of the cache; `symbols` stand for the tokens whose keys and values it holds, from place 0 on."""

    index: int
    symbols: list[int] = field(default_factory=list)
    busy: bool = False
    last_use: int = 0


class _Layer(CacheLayerMixin):
    """The keys and values (R, H, L, D) of one layer."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, slots: Slots, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values, self._slots, self.is_initialized = keys, values, slots, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store the states (B, H, Q, D) of this forward pass; returns all those of its rows (B, H, S, D)."""
        first, places, length = self._slots.target
        rows = torch.arange(first, first + len(places), device=places.device)
        self.keys[rows[:, None], :, places] = key_states.transpose(1, 2)
        self.values[rows[:, None], :, places] = value_states.transpose(1, 2)
        used = slice(first, first + len(places))
        return self.keys[used, :, :length], self.values[used, :, :length]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        return self._slots.target[2], 0

    def get_seq_length(self) -> int:
        return self._slots.target[2]

    def get_max_length(self) -> int:
        return -1


class Slots:
    """`count` rows of `max_length` tokens for `model`, a LlavaForConditionalGeneration.

    `states` are the keys and values of one token in each layer (see `token_states`). Raises CheckpointError for a
    language model with layers other than full and sliding attention.
    """

    def __init__(self, model: Any, states: Sequence[tuple[Tensor, Tensor]], count: int, max_length: int) -> None:
        self._language, self._device = model.model.language_model, model.device
        self._config = model.config.get_text_config()
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if kinds - _MASKS:
            what = f"its language model has layers that cannot be served: {', '.join(sorted(kinds - _MASKS))}"
            raise CheckpointError(what, where=model.name_or_path, fix="serve another checkpoint")
        self.rows = [Row(index) for index in range(count)]
        self.target = 0, torch.tensor([[0]]), 1
        """The first row, the places in the rows (B, Q) and the length S of the forward pass that is running."""
        self._uses = 0
        self._layers = [_Layer(self, *(_room(like, count, max_length) for like in pair)) for pair in states]
        self._cache = Cache(layers=[*self._layers])

    def forward(self, first: int, places: Tensor, embeddings: Tensor) -> Tensor:
        """The last hidden states (B, Q, D) of `embeddings` (B, Q, D) at `places` (B, Q) of the rows from `first` on."""
        length = int(places.max()) + 1
        self.target = first, places, length
        mask = self._masks(places, length, embeddings.dtype)
        # by position: transformers 5.24 names the cache `cache`, earlier versions `past_key_values`
        output = self._language(None, mask, places, self._cache, embeddings, use_cache=True)
        states: Tensor = output.last_hidden_state
        return states

    def cached(self, symbols: Sequence[int]) -> int:
        """The number of first symbols, without the last, that a row holds."""
        return self._best(symbols)[0]

    def take(self, symbols: Sequence[int], index: int) -> Row:
        """A free row, moved to `index`, with the first of `symbols` that some row holds.

        There must be a free row. One that another sequence would continue is left as it is, if there are others.
        """
        shared, best = self._best(symbols)
        if best.busy or shared < len(best.symbols):
            row = min((row for row in self.rows if not row.busy), key=lambda row: row.last_use)
            self._copy(best, row, shared)
        else:
            row = best
        self._uses += 1
        row.busy, row.last_use, row.symbols = True, self._uses, list(symbols[:shared])
        self.move(row, index)
        return row

    def _best(self, symbols: Sequence[int]) -> tuple[int, Row]:
        return max(((common(row.symbols, symbols[:-1]), row) for row in self.rows), key=lambda pair: pair[0])

    def release(self, row: Row) -> None:
        """Free the row; what it holds can be used again until another sequence takes it."""
        self._uses += 1
        row.busy, row.last_use = False, self._uses

    def move(self, row: Row, index: int) -> None:
        """Swap the row with the one at `index`."""
        if row.index == index:
            return
        other = next(one for one in self.rows if one.index == index)
        pair, back = [row.index, index], [index, row.index]
        length = max(len(row.symbols), len(other.symbols))
        for layer in self._layers:
            for states in (layer.keys, layer.values):
                states[pair, :, :length] = states[back, :, :length]
        row.index, other.index = index, row.index

    def _copy(self, source: Row, row: Row, length: int) -> None:
        if source is not row and length:
            for layer in self._layers:
                for states in (layer.keys, layer.values):
                    states[row.index, :, :length] = states[source.index, :, :length]

    def _masks(self, places: Tensor, length: int, dtype: torch.dtype) -> Any:
        """What each token may attend to (B, 1, Q, S), as numbers to add: itself and the places before it.

        Behind them a row holds another sequence's states. A model with layers of both kinds gets a mask for each.
        """
        distance = places[:, None, :, None] - torch.arange(length, device=places.device)
        window = getattr(self._config, "sliding_window", None)
        kinds = getattr(self._config, "layer_types", None)
        full = _added(distance >= 0, dtype)
        if window is None:
            return full
        sliding = _added((distance >= 0) & (distance < window), dtype)
        return {"full_attention": full, "sliding_attention": sliding} if kinds else sliding


def rows_in_memory(states: Sequence[tuple[Tensor, Tensor]], length: int, most: int, memory: int | None) -> int:
    """The number of rows of `length` tokens, up to `most`, in `memory` bytes (None: half of the device's free memory,
    or of the machine's). Raises CheckpointError if there is no place for one."""
    device = states[0][0].device
    if memory is None and device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0] // 2
    elif memory is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    row = length * sum(state[0, :, 0].nbytes for pair in states for state in pair)
    if memory < row:
        what = f"a sequence of {length} tokens needs {row / 2**30:.1f} GiB of cache, there are {memory / 2**30:.1f} GiB"
        raise CheckpointError(what, where="--max-model-len", fix="lower it")
    return min(most, memory // row)


@torch.inference_mode()
def token_states(model: Any) -> list[tuple[Tensor, Tensor]]:
    """The keys and values (1, H, 1, D) of one token in each layer."""
    embedding = model.get_input_embeddings()(torch.zeros(1, 1, dtype=torch.long, device=model.device))
    cache: Any = DynamicCache()
    model.model.language_model(None, None, None, cache, embedding, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _room(like: Tensor, count: int, length: int) -> Tensor:
    """Zeros (count, H, length, D); on a CPU their memory is taken page by page where they are written."""
    shape = count, like.shape[1], length, like.shape[3]
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    # not by NumPy, whose pages of 2 MiB take seconds to clear and four times the memory
    return torch.frombuffer(mmap(-1, math.prod(shape) * like.element_size()), dtype=like.dtype).view(shape)


def _added(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, torch.finfo(dtype).min)


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of first elements that both have in common, by halving: slices are compared faster than elements."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

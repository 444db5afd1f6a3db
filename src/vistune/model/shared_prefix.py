"""The forward pass over rows of conversation groups, for any language model of transformers.

A row holds groups one after the other, a group its shared beginning and then the rest of each conversation.
Every token has the position it has in its own conversation and attends to what precedes it there, so the states
are those of each conversation by itself. Three implementations compute the same:

- `sdpa`: every piece has a kernel call of its own, as a dense mask over a row would cost more than it saves. The one
  for CPUs;
- `flex_attention`: one call, which skips the blocks that nothing attends to. The one for GPUs;
- `flash_attention_2`: one call of flash-attn's kernel for sequences of several lengths, before which the keys of a
  shared beginning are copied for each branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface

from vistune.data.collate import Segment
from vistune.errors import require
from vistune.recipe.training import AttentionName

ATTENTION = "vistune_shared_prefix"


def use_shared_prefix(language_model: Any) -> None:
    """Have the language model's layers attend by the `layout` that its forward is then given."""
    AttentionInterface.register(ATTENTION, shared_prefix_attention)
    language_model.set_attn_implementation(ATTENTION)


class Varlen(NamedTuple):
    """A row as sequences of queries, each with all keys that it may see, as flash-attn's kernel takes them.

    The queries of a sequence are its keys' last ones; `keys` says where in the row each key is.
    """

    keys: Tensor
    query_ends: Tensor  # int32, from 0
    key_ends: Tensor
    most_queries: int
    most_keys: int


class Layout:
    """Where the groups of a row (N tokens) are: what each token may attend to.

    For `flex_attention` it has the block mask of each of the sliding `windows` (None: no window).
    """

    def __init__(
        self, segments: Sequence[Segment], positions: Tensor, attention: AttentionName = "sdpa",
        windows: Sequence[int | None] = (None,),
    ) -> None:  # fmt: skip
        self.segments, self.attention = segments, attention
        self._positions = positions  # (N), each within its conversation
        self.masks: dict[int | None, BlockMask] = {}
        if attention == "flex_attention":
            self.masks = {window: self._block_mask(window) for window in dict.fromkeys(windows)}

    @cached_property
    def sizes(self) -> list[int]:
        """The tokens of each piece: every group's shared beginning, then each of its branches."""
        return [size for segment in self.segments for size in (segment.shared, *segment.branches)]

    @cached_property
    def varlen(self) -> Varlen:
        """The row for flash-attn: a sequence for every shared beginning, and one for every branch after it."""
        keys, queries = [], []
        start = 0
        for segment in self.segments:
            shared = np.arange(start, start + segment.shared)
            sequences = [shared]
            start += segment.shared
            for size in segment.branches:
                sequences.append(np.concatenate([shared, np.arange(start, start + size)]))
                start += size
            keys += [sequence for sequence in sequences if len(sequence)]
            queries += [size for size in (segment.shared, *segment.branches) if size]
        device = self._positions.device

        def ends(sizes: Sequence[int]) -> Tensor:
            return torch.tensor(np.cumsum([0, *sizes]), dtype=torch.int32, device=device)

        lengths = [len(sequence) for sequence in keys]
        joined = torch.from_numpy(np.concatenate(keys)).to(device)
        return Varlen(joined, ends(queries), ends(lengths), max(queries), max(lengths))

    def _block_mask(self, window: int | None) -> BlockMask:
        length, device = len(self._positions), self._positions.device
        make = _compiled_masks() if device.type == "cuda" else create_block_mask
        return make(self._sees(window), None, None, length, length, device=device)

    def _sees(self, window: int | None) -> Callable[..., Tensor]:
        pieces = [(g, b) for g, segment in enumerate(self.segments) for b in range(1 + len(segment.branches))]
        repeats = torch.tensor(self.sizes)
        group, branch = torch.tensor(pieces).repeat_interleave(repeats, dim=0).to(self._positions.device).T  # (N) each
        position = self._positions

        def sees(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            same = (group[q] == group[k]) & ((branch[k] == 0) | (branch[k] == branch[q]))
            before = position[k] <= position[q]
            seen: Tensor = same & before
            return seen if window is None else seen & (position[q] - position[k] < window)

        return sees


def shared_prefix_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query (1, H, N, d), key and value (1, G, N, d); returns (1, N, H, d).

    Each conversation attends causally to its group's shared beginning and to itself, within the layer's sliding
    window if it has one.
    """
    assert attention_mask is None, "the layout says what is attended to"
    if torch.is_autocast_enabled(query.device.type):  # rotary embeddings may have left some of them in float32
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    how: dict[str, Any] = {"scaling": scaling, "dropout": dropout, "window": sliding_window, "softcap": softcap}
    if layout.attention == "flex_attention" and not dropout:  # which flex attention does not have
        states = _flexible(query, key, value, layout.masks[sliding_window], scaling, softcap)
    elif layout.attention == "flash_attention_2":
        return _flash(query, key, value, layout.varlen, **how), None
    else:
        states = _piece_by_piece(query, key, value, layout, how)
    return states.transpose(1, 2), None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # in compiled layers: every row has other pieces
def _piece_by_piece(query: Tensor, key: Tensor, value: Tensor, layout: Layout, how: dict[str, Any]) -> Tensor:
    # split, not sliced: the gradients of all pieces are then put together once
    queries, keys, values = (states.split(layout.sizes, dim=2) for states in (query, key, value))
    parts = []
    shared = 0
    for segment in layout.segments:
        end = shared + 1 + len(segment.branches)
        if segment.shared:
            parts.append(_attend(queries[shared], keys[shared], values[shared], **how))
        for own in range(shared + 1, end):
            if segment.shared:
                seen = (torch.cat([states[shared], states[own]], dim=2) for states in (keys, values))
                parts.append(_attend(queries[own], *seen, **how))
            else:
                parts.append(_attend(queries[own], keys[own], values[own], **how))
        shared = end
    return torch.cat(parts, dim=2)


def _flexible(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None, softcap: float | None
) -> Tensor:
    """The attention of all tokens in one call, (1, H, N, d); compiled on a GPU."""
    # a tensor: compiled for rows of all lengths, a number would be a symbol, which the scores' function cannot hold
    cap = torch.full((), softcap, device=query.device) if softcap else None

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        assert cap is not None
        return cap * torch.tanh(score / cap)

    attend: Any = flex_attention if torch.compiler.is_compiling() or not query.is_cuda else _compiled()
    states: Tensor = attend(
        query, key, value, score_mod=capped if softcap else None, block_mask=mask, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return states


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _flash(
    query: Tensor, key: Tensor, value: Tensor, row: Varlen, *, scaling: float | None, dropout: float,
    window: int | None, softcap: float | None,
) -> Tensor:  # fmt: skip
    """The attention of all tokens by flash-attn's kernel, (1, N, H, d)."""
    kernel = require("flash_attn", "", "attn_implementation: flash_attention_2").flash_attn_varlen_func
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))  # (N, H or G, d)
    before = (-1, -1) if window is None else (window - 1, 0)
    states: Tensor = kernel(
        queries, keys[row.keys], values[row.keys], row.query_ends, row.key_ends, row.most_queries, row.most_keys,
        dropout_p=dropout, softmax_scale=scaling, causal=True, window_size=before, softcap=softcap or 0.0,
    )  # fmt: skip
    return states[None]


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=True)
    return compiled


@lru_cache(maxsize=1)
def _compiled_masks() -> Callable[..., BlockMask]:
    """Compiled, a mask needs no memory for each pair of tokens."""
    compiled: Callable[..., BlockMask] = torch.compile(create_block_mask, dynamic=True)
    return compiled


def _attend(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None, dropout: float, window: int | None,
    softcap: float | None,
) -> Tensor:  # fmt: skip
    """Causal attention of queries (1, H, q, d) that are the last of the keys' tokens (1, G, k, d)."""
    queries, keys = query.shape[2], key.shape[2]
    plain = queries == keys and (window is None or window >= keys)
    mask = None if plain else _mask(queries, keys, window, query.device)
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=plain, scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
    key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~_mask(queries, keys, window, query.device), -torch.inf)
    weights = F.dropout(scores.float().softmax(-1).to(query.dtype), dropout)
    return weights @ value


@lru_cache(maxsize=256)
def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys (q, k) the last `queries` of `keys` tokens see."""
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return seen if window is None else seen.triu(keys - queries - window + 1)

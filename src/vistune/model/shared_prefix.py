"""The forward pass over rows of conversation groups, for any language model of transformers.

A row holds groups one after the other, a group its shared beginning and then the rest of each conversation.
Every token has the position it has in its own conversation and attends to what precedes it there, so the states
are those of each conversation by itself. On the CPU every piece has a kernel call of its own, as a dense mask over
a row would cost more than it saves; on a GPU one flex-attention call skips the blocks that nothing attends to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface

from vistune.data.collate import Segment

ATTENTION = "vistune_shared_prefix"


def use_shared_prefix(language_model: Any) -> None:
    """Have the language model's layers attend by the `layout` that its forward is then given."""
    AttentionInterface.register(ATTENTION, shared_prefix_attention)
    language_model.set_attn_implementation(ATTENTION)


class Layout:
    """Where the groups of a row (N tokens) are: what each token may attend to."""

    def __init__(self, segments: Sequence[Segment], positions: Tensor) -> None:
        self.segments, self._positions = segments, positions  # positions (N), each within its conversation
        self._masks: dict[int | None, BlockMask] = {}

    @cached_property
    def sizes(self) -> list[int]:
        """The tokens of each piece: every group's shared beginning, then each of its branches."""
        return [size for segment in self.segments for size in (segment.shared, *segment.branches)]

    def block_mask(self, window: int | None) -> BlockMask:
        """The mask of a layer with that sliding window; layers alike share it."""
        if window not in self._masks:
            length, device = len(self._positions), self._positions.device
            seen = self._sees(window)
            self._masks[window] = create_block_mask(seen, None, None, length, length, device=device)
        return self._masks[window]

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


@torch.compiler.disable  # type: ignore[untyped-decorator]  # in compiled layers: every row has other pieces
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
    if query.is_cuda and not dropout:
        states = flexible(query, key, value, layout.block_mask(sliding_window), scaling, softcap)
    else:
        how: dict[str, Any] = {"scaling": scaling, "dropout": dropout, "window": sliding_window, "softcap": softcap}
        states = _piece_by_piece(query, key, value, layout, how)
    return states.transpose(1, 2), None


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


def flexible(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None, softcap: float | None
) -> Tensor:
    """The same attention by flex attention, (1, H, N, d); compiled on a GPU."""
    if torch.is_autocast_enabled(query.device.type):  # flex attention takes one dtype; only a newer torch casts
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    attend: Any = _compiled() if query.is_cuda else flex_attention
    states: Tensor = attend(
        query, key, value, score_mod=capped if softcap else None, block_mask=mask, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return states


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=True)
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

"""The forward pass over rows of conversation groups, for any language model of transformers.

A row holds groups one after the other, a group its shared beginning and then the rest of each conversation.
Every token has the position it has in its own conversation and attends to what precedes it there, so the states
are those of each conversation by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from vistune.data.collate import Segment

ATTENTION = "vistune_shared_prefix"


def use_shared_prefix(language_model: Any) -> None:
    """Have the language model's layers attend by the `segments` that its forward is then given."""
    AttentionInterface.register(ATTENTION, shared_prefix_attention)
    language_model.set_attn_implementation(ATTENTION)


def shared_prefix_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[Segment],
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
    assert attention_mask is None, "the segments say what is attended to"
    how: dict[str, Any] = {"scaling": scaling, "dropout": dropout, "window": sliding_window, "softcap": softcap}
    parts = []
    start = 0
    for segment in segments:
        shared = slice(start, start + segment.shared)
        if segment.shared:
            parts.append(_attend(query[:, :, shared], key[:, :, shared], value[:, :, shared], **how))
        start = shared.stop
        for length in segment.branches:
            own = slice(start, start + length)
            keys, values = (_with_shared(states, shared, own) for states in (key, value))
            parts.append(_attend(query[:, :, own], keys, values, **how))
            start = own.stop
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _with_shared(states: Tensor, shared: slice, own: slice) -> Tensor:
    if shared.start == shared.stop:
        return states[:, :, own]
    return torch.cat([states[:, :, shared], states[:, :, own]], dim=2)


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

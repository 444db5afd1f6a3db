from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistune.data.collate import Segment
from vistune.model.linear_cross_entropy import linear_cross_entropy
from vistune.model.shared_prefix import Layout, Varlen, shared_prefix_attention
from vistune.recipe.training import AttentionName

SEGMENTS = (Segment(5, (3, 1, 4)), Segment(0, (6,)), Segment(2, (2, 2)))
POSITIONS = torch.tensor([*range(5), 5, 6, 7, 5, 5, 6, 7, 8, *range(6), 0, 1, 2, 3, 2, 3])


def _states(heads: int) -> Tensor:
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(1, heads, len(POSITIONS), 8, generator=generator)


def _attend(attention: AttentionName, value: Tensor | None = None, **options: Any) -> Tensor:
    layout = Layout(SEGMENTS, POSITIONS, attention, (options.get("sliding_window"),))
    value = _states(2) + 1 if value is None else value
    states, _ = shared_prefix_attention(nn.Identity(), _states(4), _states(2), value, None, layout=layout, **options)
    return states


@pytest.mark.parametrize("window", [None, 3, 20])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_flex_attention_gives_what_the_pieces_give(window: int | None, softcap: float | None) -> None:
    pieces, flex = (
        _attend(name, sliding_window=window, softcap=softcap, scaling=0.5) for name in ("sdpa", "flex_attention")
    )
    torch.testing.assert_close(flex, pieces)


def test_flex_attention_computes_in_the_dtype_of_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):  # rotary embeddings leave two of them in float32
        pieces, flex = (_attend(name, value=_states(2).bfloat16()) for name in ("sdpa", "flex_attention"))
    assert flex.dtype == pieces.dtype == torch.bfloat16
    torch.testing.assert_close(flex, pieces, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("window", [None, 3, 20])
def test_flash_attentions_sequences_are_what_the_pieces_see(window: int | None) -> None:
    """By the definition of its kernel, which runs on GPUs only: the queries are the keys' last, causal."""
    query, key, value = _states(4), _states(2), _states(2) + 1
    row: Varlen = Layout(SEGMENTS, POSITIONS, "flash_attention_2").varlen
    parts = []
    for (start, end), (first, last) in zip(pairwise(row.query_ends), pairwise(row.key_ends), strict=True):
        seen, queries = row.keys[first:last], int(end - start)
        assert queries <= row.most_queries
        assert len(seen) <= row.most_keys
        mask = torch.ones(queries, len(seen), dtype=torch.bool).tril(len(seen) - queries)
        mask = mask if window is None else mask.triu(len(seen) - queries - window + 1)
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, start:end], key[:, :, seen], value[:, :, seen], attn_mask=mask, enable_gqa=True
            )
        )
    torch.testing.assert_close(torch.cat(parts, dim=2).transpose(1, 2), _attend("sdpa", sliding_window=window))


@pytest.mark.parametrize(
    "rules", [{}, {"logit_scale": 0.25}, {"logits_scaling": 8.0}, {"final_logit_softcapping": 3.0}]
)
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_in_chunks_is_the_loss_of_all_logits(rules: dict[str, float], bias: bool) -> None:
    torch.manual_seed(0)
    config: Any = SimpleNamespace(text_config=SimpleNamespace(**rules))
    model = SimpleNamespace(lm_head=nn.Linear(16, 40_000, bias=bias), config=config)  # 104 targets at once
    states, targets = torch.randn(250, 16, requires_grad=True), torch.randint(40_000, (250,))
    logits = model.lm_head(states * rules.get("logit_scale", 1) / rules.get("logits_scaling", 1))
    if cap := rules.get("final_logit_softcapping"):
        logits = cap * torch.tanh(logits / cap)
    wanted = [states, *model.lm_head.parameters()]
    whole = F.cross_entropy(logits, targets, reduction="sum")
    chunked = linear_cross_entropy(model, states, targets)
    torch.testing.assert_close(chunked, whole)
    for ours, theirs in zip(
        torch.autograd.grad(3 * chunked, wanted), torch.autograd.grad(3 * whole, wanted), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

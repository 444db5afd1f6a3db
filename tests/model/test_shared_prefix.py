from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistune.data.collate import Segment
from vistune.model.linear_cross_entropy import linear_cross_entropy
from vistune.model.shared_prefix import Layout, flexible, shared_prefix_attention

SEGMENTS = (Segment(5, (3, 1, 4)), Segment(0, (6,)), Segment(2, (2, 2)))
POSITIONS = torch.tensor([*range(5), 5, 6, 7, 5, 5, 6, 7, 8, *range(6), 0, 1, 2, 3, 2, 3])


def _states(heads: int) -> Tensor:
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(1, heads, len(POSITIONS), 8, generator=generator)


@pytest.mark.parametrize("window", [None, 3, 20])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_flex_attention_gives_what_the_pieces_give(window: int | None, softcap: float | None) -> None:
    query, key, value = _states(4), _states(2), _states(2) + 1
    layout = Layout(SEGMENTS, POSITIONS)
    pieces, _ = shared_prefix_attention(
        nn.Identity(), query, key, value, None, layout=layout, scaling=0.5, sliding_window=window, softcap=softcap
    )
    flex = flexible(query, key, value, layout.block_mask(window), 0.5, softcap)
    torch.testing.assert_close(flex.transpose(1, 2), pieces)


def test_flex_attention_computes_in_the_dtype_of_autocast() -> None:
    query, key, value = _states(4), _states(2), _states(2).bfloat16()  # rotary embeddings leave two of them in float32
    layout = Layout(SEGMENTS, POSITIONS)
    with torch.autocast("cpu", torch.bfloat16):
        pieces, _ = shared_prefix_attention(nn.Identity(), query, key, value, None, layout=layout)
        flex = flexible(query, key, value, layout.block_mask(None), None, None)
    assert flex.dtype == pieces.dtype == torch.bfloat16
    torch.testing.assert_close(flex.transpose(1, 2), pieces, atol=1e-2, rtol=1e-2)


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

"""What torch.compile makes of a training step's layers: traced here for a GPU, whose kernels this needs not run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.nn.attention import flex_attention
from transformers import AutoConfig, AutoModelForCausalLM

from vistune.data.collate import Segment
from vistune.model.shared_prefix import Layout, use_shared_prefix

SIZES = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048, "pad_token_id": 0,
}  # fmt: skip
WINDOWED = {"sliding_window": 40, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
KINDS: dict[str, tuple[int, dict[str, Any]]] = {  # kinds of layers, each with a graph of its own
    "llama": (1, {}), "qwen2": (1, {}), "qwen3": (1, {}), "gemma": (1, {}), "gemma2": (2, WINDOWED),
    "gemma3_text": (2, WINDOWED), "mistral": (1, {"sliding_window": 40}), "phi3": (1, {"sliding_window": 40}),
}  # fmt: skip
Graphs = dict[str, int]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> tuple[Graphs, Any]:
    """A compiler that counts forward and backward graphs and runs them as they are."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)  # a CPU has no kernel for the backward
    torch._dynamo.reset()
    counts = {"forward": 0, "backward": 0}

    def counting(kind: str) -> Callable[..., Any]:
        def compiler(graph: Any, _inputs: Any) -> Any:
            counts[kind] += 1
            return make_boxed_func(graph.forward)

        return compiler

    return counts, aot_autograd(fw_compiler=counting("forward"), bw_compiler=counting("backward"))


def _row(rng: random.Random) -> tuple[list[Segment], Tensor]:
    """Conversation groups of at least three blocks."""
    segments = [Segment(rng.randint(100, 200), (rng.randint(5, 90), rng.randint(5, 90))) for _ in range(2)]
    segments.append(Segment(0, (rng.randint(50, 120),)))
    positions = [
        piece
        for one in segments
        for piece in (range(one.shared), *(range(one.shared, one.shared + size) for size in one.branches))
    ]
    return segments, torch.tensor([place for piece in positions for place in piece])


@pytest.mark.parametrize("family", KINDS)
def test_a_layer_is_one_graph_for_rows_of_all_lengths(family: str, graphs: tuple[Graphs, Any]) -> None:
    counts, backend = graphs
    kinds, changes = KINDS[family]
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **changes)).model
    use_shared_prefix(language)
    rng = random.Random(0)
    rows = [_row(rng) for _ in range(20)]
    windows = (None, getattr(language.config, "sliding_window", None))

    def run(segments: list[Segment], positions: Tensor, **layout: Any) -> Tensor:
        embeds = torch.randn(1, len(positions), 64, generator=torch.Generator().manual_seed(len(positions)))
        states: Tensor = language(
            inputs_embeds=embeds.requires_grad_(), position_ids=positions[None], use_cache=False,
            layout=Layout(segments, positions, windows=windows, **layout),
        ).last_hidden_state  # fmt: skip
        states.sum().backward()
        return states.detach()

    plain = [run(*row, attention="sdpa") for row in rows[:1]]
    for layer in language.layers:
        layer.compile(dynamic=True, fullgraph=True, backend=backend)
    compiled = [run(*row, attention="flex_attention") for row in rows]
    torch.testing.assert_close(compiled[0], plain[0], atol=1e-4, rtol=1e-4)
    assert counts == {"forward": kinds, "backward": kinds}


def test_block_masks_are_one_graph_for_rows_of_all_lengths(graphs: tuple[Graphs, Any]) -> None:
    counts, backend = graphs
    make = torch.compile(flex_attention.create_block_mask, dynamic=True, fullgraph=True, backend=backend)
    rng = random.Random(1)
    for window in (None, 40):
        for _ in range(10):
            layout = Layout(*_row(rng), "flex_attention", (window,))
            plain = layout.masks[window]
            compiled = make(plain.mask_mod, None, None, *plain.shape[-2:], device="cpu")
            for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks"):
                assert torch.equal(getattr(compiled, name), getattr(plain, name)), name
    assert counts["forward"] == 2  # with a window and without

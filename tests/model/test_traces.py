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
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048, "pad_token_id": 0,
}  # fmt: skip
WINDOWED = {"sliding_window": 40, "layer_types": ["sliding_attention", "full_attention"]}
KINDS: dict[str, tuple[int, dict[str, Any]]] = {  # kinds of layers, each with a graph of its own
    "llama": (1, {}), "qwen2": (1, {}), "qwen3": (1, {}), "gemma": (1, {}), "gemma2": (2, WINDOWED),
    "gemma3_text": (2, WINDOWED), "mistral": (1, {"sliding_window": 40}), "phi3": (1, {"sliding_window": 40}),
}  # fmt: skip


class Graphs:
    """Counts graphs, of which each is run as it is: whole layers, and their forward and backward passes by AOT."""

    def __init__(self) -> None:
        self.counts = {"layer": 0, "forward": 0, "backward": 0}

    def layers(self, graph: Any, _inputs: Any) -> Any:
        self.counts["layer"] += 1
        return graph.forward

    def passes(self) -> Any:
        return aot_autograd(fw_compiler=self._counting("forward"), bw_compiler=self._counting("backward"))

    def _counting(self, kind: str) -> Callable[..., Any]:
        def compiler(graph: Any, _inputs: Any) -> Any:
            self.counts[kind] += 1
            return make_boxed_func(graph.forward)

        return compiler


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)  # a CPU has no kernel for the backward
    torch._dynamo.reset()
    return Graphs()


def _row(rng: random.Random) -> tuple[list[Segment], Tensor]:
    """Conversation groups of two or three blocks."""
    segments = [
        Segment(rng.randint(130, 160), (rng.randint(5, 40), rng.randint(5, 40))),
        Segment(0, (rng.randint(90, 140),)),
    ]
    positions = [
        piece
        for one in segments
        for piece in (range(one.shared), *(range(one.shared, one.shared + size) for size in one.branches))
    ]
    return segments, torch.tensor([place for piece in positions for place in piece])


@pytest.mark.parametrize("family", KINDS)
def test_a_layer_is_one_graph_for_rows_of_all_lengths(family: str, graphs: Graphs) -> None:
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
        return states

    plain = run(*rows[0], attention="sdpa").detach()
    for layer in language.layers:
        layer.compile(dynamic=True, fullgraph=True, backend=graphs.layers)
    compiled = [run(*row, attention="flex_attention") for row in rows]
    torch.testing.assert_close(compiled[0], plain, atol=1e-4, rtol=1e-4)
    assert graphs.counts["layer"] == kinds
    if family == "gemma2":  # windows, and a score function that caps
        torch._dynamo.reset()
        backend = graphs.passes()
        for layer in language.layers:
            layer.compile(dynamic=True, fullgraph=True, backend=backend)
        for row in rows[:3]:
            run(*row, attention="flex_attention").sum().backward()
        assert (graphs.counts["forward"], graphs.counts["backward"]) == (2, 2)


def test_block_masks_are_one_graph_for_rows_of_all_lengths(graphs: Graphs) -> None:
    make = torch.compile(flex_attention.create_block_mask, dynamic=True, fullgraph=True, backend=graphs.layers)
    rng = random.Random(1)
    for window in (None, 40):
        for _ in range(10):
            layout = Layout(*_row(rng), "flex_attention", (window,))
            plain = layout.masks[window]
            compiled = make(plain.mask_mod, None, None, *plain.shape[-2:], device="cpu")
            for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks"):
                assert torch.equal(getattr(compiled, name), getattr(plain, name)), name
    assert graphs.counts["layer"] == 2  # with a window and without

"""Rows of different lengths in one cache give every family's own next tokens, with sliding windows too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from vistune.errors import CheckpointError
from vistune.serve.slots import Slots, rows_in_memory, token_states

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 8}),
    ("mistral", {"sliding_window": 6}),
    ("phi3", {"sliding_window": None, "pad_token_id": 0}),
    ("gemma2", {"sliding_window": 6, "head_dim": 8}),
    ("gemma3_text", {"sliding_window": 6, "head_dim": 8, "sliding_window_pattern": 2}),
    ("cohere2", {"sliding_window": 6}),
    ("starcoder2", {}),
]


def build(family: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    size = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "initializer_range": 0.3}
    text = AutoConfig.for_model(
        family, hidden_size=32, num_key_value_heads=2, vocab_size=80, max_position_embeddings=128, **size, **options
    )
    vision = CLIPVisionConfig(hidden_size=16, image_size=28, patch_size=14, **size)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=79)
    ).eval()
    with torch.no_grad():  # tied or not, far from ties of logits
        model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize(("family", "options"), FAMILIES, ids=[name for name, _ in FAMILIES])
@torch.inference_mode()
def test_a_ragged_batch_writes_what_each_row_writes_alone(family: str, options: dict[str, Any]) -> None:
    model = build(family, options)
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(3, 70, (length,), generator=generator).tolist() for length in (3, 17, 9)]
    prompts.append([*prompts[1][:11], 5, 6])  # shares the first tokens of another
    slots, embed = Slots(model, token_states(model), 5, 64), model.get_input_embeddings()
    written: list[list[int]] = []
    rows = []
    for index, prompt in enumerate(prompts):
        row = slots.take(prompt, index)
        start = len(row.symbols)
        assert start == (11 if index == 3 else 0)
        places = torch.arange(start, len(prompt))[None]
        states = slots.forward(row.index, places, embed(torch.tensor([prompt[start:]])))
        row.symbols = list(prompt)
        rows.append(row)
        written.append([int(model.lm_head(states[0, -1]).argmax())])
    for _ in range(11):
        tokens = torch.tensor([[ids[-1]] for ids in written])
        places = torch.tensor([[len(row.symbols)] for row in rows])
        states = slots.forward(0, places, embed(tokens))
        for row, ids, logits in zip(rows, written, model.lm_head(states[:, -1]), strict=True):
            row.symbols.append(ids[-1])
            ids.append(int(logits.argmax()))
    for prompt, ids in zip(prompts, written, strict=True):
        alone = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)
        assert alone[0, len(prompt) :].tolist() == ids


def test_a_conversation_that_others_may_continue_stays_while_there_are_other_rows() -> None:
    model = build("llama", {})
    slots = Slots(model, token_states(model), 2, 64)
    first = slots.take([1, 2, 3, 4], 0)
    first.symbols = [1, 2, 3, 4]
    slots.release(first)
    second = slots.take([1, 2, 9, 9], 0)  # another question after the same beginning
    assert (second is first, second.symbols) == (False, [1, 2])
    slots.release(second)
    assert slots.take([1, 2, 3, 4, 5], 0) is first


def test_layers_that_have_no_keys_and_values_are_refused() -> None:
    model = build("llama", {})
    model.config.text_config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(CheckpointError, match="linear_attention"):
        Slots(model, [], 2, 64)


def test_memory_bounds_the_rows() -> None:
    states = token_states(build("llama", {}))
    token = 3 * 2 * 2 * 8 * 4  # layers, keys and values, heads, their width, bytes
    assert rows_in_memory(states, 10, 8, 35 * token) == 3
    assert rows_in_memory(states, 10, 8, None) == 8
    with pytest.raises(CheckpointError, match="--max-model-len"):
        rows_in_memory(states, 10, 8, 9 * token)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from assembling import assemble
from vistune.data.collate import collate
from vistune.data.encode import Encoder
from vistune.data.groups import make_groups
from vistune.data.images import to_pixels
from vistune.model.adapters import add_lora
from vistune.model.assemble import image_token_count
from vistune.recipe.training import LoraRecipe, Part
from vistune.records import Conversation, Turn
from vistune.train.flops import Work, flops, our_work, plain_work
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

TOLD = [("a", "two dogs"), ("a", "a red box above two people"), ("b", "no")]


def _samples(processor: Any, model: Any) -> Any:
    conversations = [
        Conversation(str(i), (Turn("user", "<image>\nwhat is it"), Turn("assistant", text)), (name,))
        for i, (name, text) in enumerate(TOLD)
    ]
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_token_count(model.config))
    return [encoder.encode(conversation, 100) for conversation in conversations]


def test_work_is_counted_by_hand(backbones: Path) -> None:
    model, processor = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    samples = _samples(processor, model)
    lengths = [len(sample.input_ids) for sample in samples]
    groups = make_groups(samples)
    shared = groups[0].shared
    own = [lengths[0] - shared, lengths[1] - shared]
    pairs = sum(range(shared + 1)) + sum(n * shared + sum(range(n + 1)) for n in own) + sum(range(lengths[2] + 1))
    targets = sum(int(sample.targets.sum()) for sample in samples)
    assert shared > 4
    assert our_work(groups) == Work(2, 8, shared + sum(own) + lengths[2], pairs, targets)
    padded = 2 * max(lengths[:2])
    wanted = Work(3, 12, padded + lengths[2], 2 * sum(range(max(lengths[:2]) + 1)) + sum(range(lengths[2] + 1)),
                  padded + lengths[2])  # fmt: skip
    assert plain_work([samples[:2], samples[2:]]) == wanted


@pytest.mark.parametrize(
    "trains", [["projector"], ["projector", "language"], ["projector", "lora"], ["vision", "projector"]]
)
def test_operations_are_those_that_torch_counts(backbones: Path, trains: list[Part]) -> None:
    model, processor = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    if "lora" in trains:
        add_lora(model, LoraRecipe(rank=1, dropout=0), 0)
    freeze(model, trains)
    groups = make_groups(_samples(processor, model))
    pixels = to_pixels(processor.image_processor, Image.new("RGB", (28, 28), "red"))
    with FlopCounterMode(display=False) as counter:
        TargetLoss(model)(collate(groups, lambda _: pixels)).backward()
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, torch.ops.aten.bmm}
    counted = sum(n for op, n in counter.get_flop_counts()["Global"].items() if op not in attention)
    parts = flops(model, trains, our_work(groups))
    assert "lora" in trains or counted == pytest.approx(sum(parts.values()) - parts["attention"], rel=0.1)
    assert counted > 0.9 * (sum(parts.values()) - parts["attention"])

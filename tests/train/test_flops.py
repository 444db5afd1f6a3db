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
from vistune.model.vision import image_grid
from vistune.recipe.training import LoraRecipe, Part
from vistune.records import Conversation, Turn
from vistune.train.flops import Work, flops, our_work, peak_of, plain_work, work_of
from vistune.train.log import Log
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

TOLD = [("a", "two dogs"), ("a", "a red box above two people"), ("b", "no")]


def _samples(processor: Any, model: Any) -> Any:
    conversations = [
        Conversation(str(i), (Turn("user", "<image>\nwhat is it"), Turn("assistant", text)), (name,))
        for i, (name, text) in enumerate(TOLD)
    ]
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
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
    assert work_of(collate(groups, lambda *_: torch.zeros(1, 3, 28, 28))) == our_work(groups)
    assert work_of(collate(groups, lambda *_: torch.zeros(1, 4, 16))).crops == 0  # known features
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
        TargetLoss(model)(collate(groups, lambda *_: pixels)).backward()
    counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    # attention is left out: on a CPU torch counts it, and its backward pass, from some version on
    counted = sum(n for op, n in counts.items() if "attention" not in op and op != "aten.bmm")
    parts = flops(model, trains, our_work(groups))
    assert "lora" in trains or counted == pytest.approx(sum(parts.values()) - parts["attention"], rel=0.1)
    assert counted > 0.9 * (sum(parts.values()) - parts["attention"])


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362), ("NVIDIA GeForce RTX 4090", 165), ("Tesla T4", 65), ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA RTX 6000 Ada Generation", 364), ("NVIDIA RTX A6000", 155), ("Radeon RX 7900 XTX", None),
    ],
)  # fmt: skip
def test_peaks_of_common_gpus(name: str, peak: float | None) -> None:
    assert peak_of(name) == (peak and 1e12 * peak)


def test_the_log_has_the_share_of_a_known_peak(tmp_path: Path) -> None:
    batch = collate([], lambda *_: torch.zeros(1, 4, 16))
    for peak, shown in ((None, False), (1e12, True)):
        with Log(tmp_path, 0, 1, silent=False, project="x", log_to=[], operations=lambda _: 1e9, peak=peak) as log:
            log.step(1, 1, 1, [batch])
            figures = log.speed()
        assert ("train/mfu" in figures) is shown
    assert figures["train/mfu"] == pytest.approx(figures["train/samples_per_second"] * 1e9 / 1e12)

"""The training loop of one stage."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from pathlib import Path
from signal import SIGTERM

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import set_seed  # type: ignore[import-untyped]
from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.dataset import Dataset
from vistune.data.features import FeatureCache
from vistune.data.images import ImageStore
from vistune.data.loader import Loader
from vistune.errors import Stopped
from vistune.recipe import StageRecipe
from vistune.train.log import Log
from vistune.train.resume import Progress, load_state, newest_state, save_state
from vistune.train.stages import TargetLoss, freeze, parts
from vistune.train.stop import StopAfterStep


def total_steps(epoch_size: int, stage: StageRecipe) -> int:
    """The optimizer steps of a stage: as many full batches as come closest to its epochs, at least one."""
    return max(1, round(stage.epochs * epoch_size / stage.batch_size))


def schedule(step: int, total: int, warmup_ratio: float) -> float:
    """The share of the peak learning rate in a step (from 0): up along a line, then down to zero along a cosine."""
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def train_stage(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    dataset: Dataset,
    stage: StageRecipe,
    *,
    accelerator: Accelerator,
    bf16: bool,
    seed: int,
    folder: Path,
    kept: FeatureCache | None = None,
) -> None:
    """Train `model` in place on `dataset`; what is needed to go on after an interruption is kept in `folder`.

    Images whose features are `kept` are not seen again by the frozen vision tower.

    The loss of a step is the cross-entropy summed over the target tokens of its whole batch divided by their
    number, whatever the micro-batch size and the number of processes. Raises DataError if the data changed.
    """
    seed_step(seed, 0, 0)
    freeze(model, stage.trains)
    images = ImageStore(dataset.image, processor.image_processor, kept)
    module, optimizer = accelerator.prepare(TargetLoss(model, images.keep), _optimizer(model, stage))
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    loader = Loader(
        dataset, images, batch_size=stage.batch_size, micro_batch_size=stage.micro_batch_size, seed=seed,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    total, world = total_steps(loader.epoch_size, stage), accelerator.num_processes
    progress = Progress(dataset.fingerprint())
    if state := newest_state(folder / "state"):
        progress = load_state(state, progress.data, weights, optimizer)
    signals, main = StopAfterStep(), accelerator.is_main_process
    with signals.noting(), Log(folder, stage.name, progress.done, total, silent=not main) as log:
        for step in loader.steps(progress.done, total):
            seed_step(seed, step.number, accelerator.process_index)
            share = schedule(step.number, total, stage.warmup_ratio)
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
            summed = torch.zeros((), device=accelerator.device)
            for index, batch in enumerate(step.micro_batches):
                more = index < len(step.micro_batches) - 1  # processes exchange gradients at the last one only
                with accelerator.no_sync(module) if more else nullcontext():
                    with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
                        loss = module(batch.to(accelerator.device))
                    # processes average their gradients, and the whole batch's targets divide the whole sum
                    accelerator.backward(loss * (world / step.targets))
                summed += loss.detach()
            norm = accelerator.clip_grad_norm_(list(weights.values()), stage.clip_norm)
            optimizer.step()
            optimizer.zero_grad()

            progress.done = step.number + 1
            # all processes end after the same step
            told = torch.stack([summed, torch.full_like(summed, signals.noted)])
            loss_sum, stop = accelerator.reduce(told, "sum").tolist()
            progress.loss_sum += loss_sum
            progress.targets += step.targets
            if progress.done % stage.log_every == 0 or progress.done == total:
                rate, mean = share * stage.learning_rate, progress.loss_sum / progress.targets
                log.write(progress.done, {"loss": mean, "lr": rate, "grad_norm": float(norm)})
                progress.loss_sum, progress.targets = 0.0, 0
            log.step(progress.done)
            if main and (stop or (progress.done % stage.checkpoint_every == 0 and progress.done < total)):
                save_state(folder / "state", progress, weights, optimizer)
            if stop:
                raise Stopped(signals.noted or SIGTERM, f" after step {progress.done}/{total} of stage {stage.name}")


def seed_step(seed: int, step: int, process: int) -> None:
    """Begin a step: everything random in it is a function of these numbers, so that any step can be resumed."""
    number = hashlib.sha256(f"{seed} {step} {process}".encode()).digest()
    set_seed(int.from_bytes(number[:4]))  # of Python, NumPy, and torch on all devices


def _optimizer(model: LlavaForConditionalGeneration, stage: StageRecipe) -> torch.optim.Optimizer:
    """AdamW with each part's learning rate; weight decay on matrices only, as usual."""
    groups = []
    for part in stage.trains:
        peak = stage.learning_rates.get(part, stage.learning_rate)
        modules = nn.ModuleList(parts(model)[part])  # a weight that two modules share comes once
        weights = [weight for weight in modules.parameters() if weight.requires_grad]
        for decay, chosen in (
            (stage.weight_decay, [weight for weight in weights if weight.ndim >= 2]),
            (0.0, [weight for weight in weights if weight.ndim < 2]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "peak": peak})
    return torch.optim.AdamW(groups, lr=stage.learning_rate, fused=True)

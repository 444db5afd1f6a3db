"""The training loop of one stage."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import set_seed  # type: ignore[import-untyped]
from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.collate import Batch, collate
from vistune.data.dataset import Dataset
from vistune.data.features import FeatureCache
from vistune.data.groups import make_groups
from vistune.data.images import ImageStore
from vistune.data.loader import Loader, one_ahead, share_out
from vistune.errors import RecipeError, Stopped, TrainingError, did_you_mean
from vistune.interrupt import StopAfterStep
from vistune.recipe.training import Recipe, StageRecipe
from vistune.train.distributed import accumulation, averaged_over, decide, is_sharded, prepare, unshard
from vistune.train.flops import flops, known_peak
from vistune.train.frozen_half import half_dtype
from vistune.train.held_out import HeldOutQuestions
from vistune.train.log import Log
from vistune.train.optimizer import LossScale, clip, make_optimizer, schedule
from vistune.train.preference_loss import PreferenceLoss
from vistune.train.resume import Progress, best_weights, load_state, load_weights, newest_state, save_state
from vistune.train.target_loss import TargetLoss

_NAMED_IDS = 8
Evaluate = Callable[[LlavaForConditionalGeneration, LlavaProcessor, Path, int], dict[str, float]]
"""Scores the model after a number of steps, by name; it may write to the stage's folder."""


def train_stage(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    dataset: Dataset,
    recipe: Recipe,
    stage: StageRecipe,
    *,
    accelerator: Accelerator,
    folder: Path,
    feature_cache: FeatureCache | None = None,
    validation_data: Dataset | None = None,
    evaluate: Evaluate | None = None,
) -> None:
    """Train `model`, as `prepare_stage` left it, in place on `dataset`; `folder` gets the states to resume from.

    The frozen vision tower does not encode images again whose features are in `feature_cache`. The loss on
    `validation_data` is logged, and so are the figures of `evaluate`, every `stage.evaluate_every` steps.

    The loss of a step is the cross-entropy summed over the target tokens of its whole batch divided by their number, or
    DPO's over its pairs, whatever the micro-batch size and the number of processes. In the end all weights are whole in
    the main process. Raises DataError if the data changed, StorageError if the disk is full, Stopped after a signal,
    TrainingError at the first loss or gradient norm that is not finite.
    """
    seed, half = recipe.seed, half_dtype(recipe)
    seed_step(seed, 0, 0)
    images = ImageStore(dataset.image, processor.image_processor, feature_cache, max_megapixels=recipe.max_megapixels)
    in_place = accelerator.num_processes == 1
    total_loss = _stage_loss(model, recipe, stage, keep_features=images.keep, in_place=in_place)
    module, optimizer = prepare(accelerator, total_loss, lambda: make_optimizer(model, stage), half)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    loader = Loader(
        dataset, images, batch_size=stage.batch_size, micro_batch_size=stage.micro_batch_size, seed=seed,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    total, world = total_steps(loader.epoch_size, stage), accelerator.num_processes
    divisor = averaged_over(accelerator)
    progress = Progress(dataset.fingerprint() + (validation_data.fingerprint() if validation_data else ""))
    if half == torch.float16:
        progress.scale = LossScale()
    states = folder / "state"
    if state := decide(accelerator, lambda: newest_state(states)):
        progress = load_state(state, progress.data, weights, optimizer)

    def check_finite(figures: Mapping[str, float]) -> None:
        """Ends the training in all processes, which have the same figures, at the first one that is not finite."""
        if not all(map(math.isfinite, figures.values())):
            ids = dataset.ids(dataset.sampler(seed).step(progress.done - 1, stage.batch_size))
            when = f"step {progress.done}/{total}"
            decide(accelerator, lambda: _diverged(figures, when, stage, ids, states))

    signals, main, ended = StopAfterStep(), accelerator.is_main_process, progress.stale == stage.early_stopping
    log = Log(
        folder, progress.done, total, silent=not main, project=recipe.name, log_to=recipe.log_to,
        operations=lambda work: sum(flops(model, stage.trains, work, reference=stage.loss == "dpo").values()),
        peak=known_peak(accelerator.device) if recipe.precision != "fp32" else None,
    )  # fmt: skip
    questions = HeldOutQuestions(validation_data, stage.show_answers) if validation_data and not is_sharded() else None
    with closing(total_loss), signals.noting(), log:
        for step in loader.steps(progress.done, progress.done if ended else total):
            seed_step(seed, step.number, accelerator.process_index)
            share = schedule(step.number, total, stage)
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
            summed = torch.zeros((), device=accelerator.device)
            for index, batch in enumerate(step.micro_batches):
                with accumulation(module, local=index < len(step.micro_batches) - 1):
                    with torch.autocast(accelerator.device.type, half, enabled=half is not None):
                        # processes average their gradients, and the whole batch's targets divide the whole sum
                        loss = module(batch.to(accelerator.device), progress.scale.value * divisor / step.targets)
                    accelerator.backward(loss)
                summed += loss.detach() * (step.targets / divisor / progress.scale.value)
            norm = clip(weights.values(), stage.clip_norm, progress.scale.value)
            overflow = half == torch.float16 and not math.isfinite(norm) and progress.scale.value > 1
            if not overflow:
                optimizer.step()
            if half == torch.float16:
                progress.scale.update(finite=not overflow)
            optimizer.zero_grad(set_to_none=not in_place)  # new memory costs more than zeros

            progress.done = step.number + 1
            tokens = sum(len(batch.input_ids) for batch in step.micro_batches)
            sums = torch.stack([summed, summed.new_tensor(tokens), summed.new_tensor(signals.noted)])
            sums = torch.cat([sums, total_loss.take_figures()])
            loss_sum, tokens, stop, *added = accelerator.reduce(sums, "sum").tolist()  # so all end after the same step
            # before this step is logged or saved
            check_finite({"loss": loss_sum} if overflow else {"loss": loss_sum, "gradient norm": norm})
            progress.add(loss_sum, step.targets, dict(zip(total_loss.figures, added, strict=True)))
            log.step(progress.done, stage.batch_size, tokens, step.micro_batches)
            last = progress.done == total
            if last or progress.done % stage.log_every == 0:
                rates = {"train/lr": stage.learning_rate}
                rates |= {f"train/lr_{part}": peak for part, peak in stage.learning_rates.items()}
                figures = {f"train/{name}": value for name, value in progress.means().items()}
                figures |= {"train/loss_scale": progress.scale.value} if half == torch.float16 else {}
                figures |= {} if overflow else {"train/grad_norm": norm}
                log.write(progress.done, figures | {name: share * rate for name, rate in rates.items()} | log.speed())
            best = False
            if validation_data and (last or progress.done % stage.validate_every == 0):
                size = stage.micro_batch_size * world
                means = _validate(module, total_loss, validation_data, processor, size, accelerator, half)
                check_finite(means)
                log.write(progress.done, means)
                if questions and main:
                    with _answering(module, total_loss, half):
                        log.show(progress.done, questions.answers(model, processor))
                best = bool(stage.early_stopping and not stage.keep_best) and progress.improved(means["val/loss"])
            if stage.evaluate_every and evaluate and (last or progress.done % stage.evaluate_every == 0):
                with _answering(module, total_loss, half):
                    scores = decide(accelerator, lambda: evaluate(model, processor, folder, progress.done))
                log.write(progress.done, {f"eval/{name}": value for name, value in scores.items()})
                if stage.keep_best:
                    best = progress.improved(_badness(scores, stage))
            if stop or best or (progress.done % stage.checkpoint_every == 0 and not last):
                save_state(states, progress, weights, optimizer, accelerator)
            if stop:
                raise Stopped(signals.noted or SIGTERM, f" after step {progress.done}/{total} of stage {stage.name}")
            if progress.stale == stage.early_stopping:
                break
    if progress.best_step:
        load_weights(decide(accelerator, lambda: best_weights(states, progress)), weights)
    unshard(module, keep=main)


def _badness(figures: Mapping[str, float], stage: StageRecipe) -> float:
    """What the stage's `keep_best` makes as low as possible. Raises RecipeError if it is not among the figures."""
    name = (stage.keep_best or "").removeprefix("-")
    if name not in figures:
        raise RecipeError("there is no such score", where=f"keep_best {name}", fix=did_you_mean(name, figures))
    return figures[name] if stage.keep_best != name else -figures[name]


def _diverged(figures: Mapping[str, float], when: str, stage: StageRecipe, ids: Sequence[str], states: Path) -> None:
    """Raises TrainingError with the figures that are not finite, the step's conversations and the last state."""
    broken = ", ".join(f"{name} {value}" for name, value in figures.items() if not math.isfinite(value))
    named = [*ids[:_NAMED_IDS], *([f"{len(ids) - _NAMED_IDS} more"] if len(ids) > _NAMED_IDS else [])]
    what = f"{broken} in {when}, on the conversations {', '.join(named)}"
    state = newest_state(states)
    saved = f"the last good state is {state}" if state else "no state has been saved yet"
    fix = f"check these conversations, or train with a lower learning_rate in another output folder; {saved}"
    raise TrainingError(what, where=f"stages.{stage.name}", fix=fix)


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed a step: everything random in it is a function of these numbers, so that any step can be resumed."""
    number = hashlib.sha256(f"{seed} {step} {process}".encode()).digest()
    set_seed(int.from_bytes(number[:4]))  # of Python, NumPy, and torch on all devices


def total_steps(epoch_size: int, stage: StageRecipe) -> int:
    """Number of optimizer steps of a stage: as many full batches as come closest to its epochs, at least one."""
    return max(1, round(stage.epochs * epoch_size / stage.batch_size))


def _stage_loss(model: LlavaForConditionalGeneration, recipe: Recipe, stage: StageRecipe, **options: Any) -> TargetLoss:
    options |= {
        "recompute": stage.activation_checkpointing, "compiled": recipe.compile, "attention": recipe.attn_implementation
    }  # fmt: skip
    if stage.loss == "dpo":
        return PreferenceLoss(model, beta=stage.beta, rpo_alpha=stage.rpo_alpha, **options)
    return TargetLoss(model, **options)


def _validate(
    module: nn.Module, total_loss: TargetLoss, dataset: Dataset, processor: LlavaProcessor, size: int,
    accelerator: Accelerator, half: torch.dtype | None,
) -> dict[str, float]:  # fmt: skip
    """The mean loss, and further figures of it, over all of `dataset`, read `size` samples at a time.

    They are the same in all processes, which have to call this together; it does not change the training. Raises
    DataError for an image.
    """
    images = ImageStore(dataset.image, processor.image_processor)
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device

    def read(start: int) -> tuple[Batch | None, int]:
        """This process's part of the samples from `start`, and 1; or another's and 0, as all have to compute one."""
        indices = range(start, min(start + size, len(dataset)))
        samples = [sample for index in indices if (sample := dataset.get(index)) is not None]
        if not samples:
            return None, 0
        parts = share_out(make_groups(samples), min(world, len(samples)))
        return collate(parts[rank % len(parts)], images.get), int(rank < len(parts))

    sums = torch.zeros(2 + len(total_loss.figures), dtype=torch.float64)  # of the loss, its targets, the figures
    with _evaluating(module), torch.no_grad(), torch.autocast(device.type, half, enabled=half is not None):
        for batch, counts in one_ahead(read, range(0, len(dataset), size)):
            if batch is not None:
                loss = module(batch.to(device))
                added = torch.stack([loss, loss.new_tensor(total_loss.count(batch))])
                sums += counts * torch.cat([added, total_loss.take_figures()]).cpu()
    loss_sum, count, *figures = accelerator.reduce(sums.float().to(device), "sum").tolist()
    named = zip(("loss", *total_loss.figures), (loss_sum, *figures), strict=True)
    return {f"val/{name}": total / count for name, total in named}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and then each part in its own mode again: a frozen one stays in evaluation."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def _answering(module: nn.Module, total_loss: TargetLoss, half: torch.dtype | None) -> Iterator[None]:
    """The model ready to generate: in evaluation mode, with its own attention, in the precision of the training."""
    device = total_loss.model.device.type
    with total_loss.suspended(), _evaluating(module), torch.autocast(device, half, enabled=half is not None):
        yield

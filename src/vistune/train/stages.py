"""What a stage trains: its data, its adapters, and which weights have gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.chat_template import chat_template
from vistune.data.dataset import AHEAD, Dataset, open_sources
from vistune.data.encode import Encoder
from vistune.data.source import DataSource
from vistune.errors import DataError, RecipeError
from vistune.generate.kinds import prompt_folder
from vistune.model.adapters import add_lora, lora_parts
from vistune.model.checkpoint import keep_own_template
from vistune.model.families import vision_blocks
from vistune.model.vision import image_grid, used_blocks
from vistune.recipe.training import LoraRecipe, Part, Recipe, StageRecipe
from vistune.records import IMAGE_TOKEN
from vistune.train.frozen_half import half_dtype

Print = Callable[[str], None]
_SOME = 1_000
"""Conversations of a file that are looked at before training."""
_CAPTION = 3
"""The largest number of turns of a caption: a system's, an instruction, the caption."""


def open_stage_data(stage: StageRecipe, output: Print) -> list[list[DataSource]]:
    """The files of a stage's training data and of its validation data, each read through once.

    `output` gets the records that are left out. Raises DataError with file and record, for questions in a stage whose
    template is `plain`, and for data that does not have what the stage's loss needs.
    """
    data = [
        open_sources(entries, skip_bad_records=stage.skip_bad_records, output=output)
        for entries in (stage.sources(), stage.sources(validation=True))
    ]
    for source in (one for sources in data for one in sources):
        _check_pairs(source, stage)
    if stage.template == "plain":
        for source in data[0]:
            _check_captions(source)
    return data


def _check_pairs(source: DataSource, stage: StageRecipe) -> None:
    """Raise DataError for preferences in a stage that learns answers, and the reverse."""
    if stage.loss == "dpo" and source.pairs < len(source):
        what = f"{len(source) - source.pairs:,} of {len(source):,} records have no 'chosen' and 'rejected' answer"
        raise DataError(what, where=source.label, fix="`loss: dpo` learns from pairs: remove the others")
    if stage.loss != "dpo" and source.pairs:
        what = f"{source.pairs:,} of {len(source):,} records are preferences ('chosen', 'rejected')"
        fix = "train on them in a stage with `loss: dpo` and `trains: [lora]`, or remove 'rejected' and rename 'chosen'"
        raise DataError(what, where=source.label, fix=fix)


def _check_captions(source: DataSource) -> None:
    """Raise DataError for data that asks: the template `plain` leaves out all that a user says."""
    some = list(islice(source, _SOME))
    requests = [one.turns[-2].text.replace(IMAGE_TOKEN, "").strip() for one in some]
    briefs = {line for file in prompt_folder().glob("brief*.txt") for line in file.read_text("utf-8").splitlines()}
    asks = sum(request.endswith("?") and request not in briefs for request in requests)
    if any(len(one.turns) > _CAPTION for one in some) or asks > len(some) / 2:
        what = "the stage's template `plain` leaves questions out, and this data has questions"
        fix = "remove `template: plain` from this stage, or give it captions: one instruction and one answer each"
        raise DataError(what, where=source.label, fix=fix)


def prepare_stage(
    recipe: Recipe, stage: StageRecipe, model: LlavaForConditionalGeneration, processor: LlavaProcessor,
    data: list[list[DataSource]], *, output: Print, ahead: int = AHEAD,
) -> list[Dataset]:  # fmt: skip
    """Make `model` what the stage trains, in place, and encode its `data`; the same for training and planning.

    Returns the training data set and, if the stage has one, the validation data set; up to `ahead` conversations are
    encoded in advance. Raises RecipeError for adapters of layers or a template that do not exist, DataError for data
    without any usable conversation.
    """
    if "lora" in stage.trains:
        add_lora(model, stage.lora or LoraRecipe(), recipe.seed, half_dtype(recipe))
    freeze(model, stage.trains, stage.vision_layers)
    own = keep_own_template(model, processor)
    template = chat_template(processor.tokenizer, stage.template) if stage.template else own
    encoder = Encoder(processor.tokenizer, template, image_grid(model.config))
    return [Dataset(sources, encoder, stage.max_length, output=output, ahead=ahead) for sources in data if sources]


def parts(model: LlavaForConditionalGeneration) -> dict[Part, list[nn.Module]]:
    """The modules of each part that a recipe can train."""
    newline: Any = getattr(model.model, "image_newline", None)  # LLaVA-1.6 trains it with the language model
    return {
        "projector": [model.model.multi_modal_projector],
        "language": [model.model.language_model, model.lm_head, nn.ParameterList([] if newline is None else [newline])],
        "vision": [model.model.vision_tower],
        "lora": lora_parts(model),
    }


def freeze(model: LlavaForConditionalGeneration, trains: Collection[Part], vision_layers: int | None = None) -> None:
    """Only the parts in `trains` keep their gradients; frozen parts are in evaluation mode.

    Of the vision tower, the last `vision_layers` layers are trained (none: all of it). Raises RecipeError if it has
    fewer.
    """
    model.requires_grad_(False).eval()
    for part in trains:
        for module in parts(model)[part]:
            module.requires_grad_(True).train()
    # layers after the hidden state that the projector reads never get a gradient
    vision: Any = model.model.vision_tower
    blocks = list(vision_blocks(vision))[: used_blocks(model)]
    if vision_layers and vision_layers > len(blocks):
        what = f"the vision tower has {len(blocks)} layers before the hidden state that the projector reads"
        raise RecipeError(what, where="vision_layers", fix=f"at most {len(blocks)}")
    vision_parts = {id(weight) for block in blocks[-(vision_layers or 0) :] for weight in block.parameters()}
    for name, weight in vision.named_parameters():
        before = not vision_layers and name.startswith(("embeddings.", "pre_layrnorm."))
        weight.requires_grad_(weight.requires_grad and (before or id(weight) in vision_parts))

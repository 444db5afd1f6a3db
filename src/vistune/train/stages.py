"""What a stage trains: its data, its adapters, and which weights have gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.chat_template import chat_template
from vistune.data.dataset import AHEAD, Dataset, open_sources
from vistune.data.encode import Encoder
from vistune.data.source import DataSource
from vistune.model.adapters import add_lora, lora_parts
from vistune.model.assemble import image_token_count
from vistune.model.families import vision_blocks
from vistune.model.vision import used_blocks
from vistune.recipe.training import LoraRecipe, Part, Recipe, StageRecipe

Print = Callable[[str], None]


def open_stage_data(stage: StageRecipe, output: Print) -> list[list[DataSource]]:
    """The files of a stage's training data and of its validation data, each read through once.

    `output` gets the records that are left out. Raises DataError with file and record.
    """
    return [
        open_sources(entries, skip_bad_records=stage.skip_bad_records, output=output)
        for entries in (stage.sources(), stage.sources(validation=True))
    ]


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
        add_lora(model, stage.lora or LoraRecipe(), recipe.seed, bf16=recipe.precision == "bf16")
    freeze(model, stage.trains)
    template = chat_template(processor.tokenizer, stage.template) if stage.template else str(processor.chat_template)
    encoder = Encoder(processor.tokenizer, template, image_token_count(model.config))
    return [Dataset(sources, encoder, stage.max_length, output=output, ahead=ahead) for sources in data if sources]


def parts(model: LlavaForConditionalGeneration) -> dict[Part, list[nn.Module]]:
    """The modules of each part that a recipe can train."""
    return {
        "projector": [model.model.multi_modal_projector],
        "language": [model.model.language_model, model.lm_head],
        "vision": [model.model.vision_tower],
        "lora": lora_parts(model),
    }


def freeze(model: LlavaForConditionalGeneration, trains: Collection[Part]) -> None:
    """Only the parts in `trains` keep their gradients; frozen parts are in evaluation mode."""
    model.requires_grad_(False).eval()
    for part in trains:
        for module in parts(model)[part]:
            module.requires_grad_(True).train()
    # layers after the hidden state that the projector reads never get a gradient
    vision: Any = model.model.vision_tower
    blocks = vision_blocks(vision)[: used_blocks(model)]
    vision_parts = {id(weight) for block in blocks for weight in block.parameters()}
    for name, weight in vision.named_parameters():
        before = name.startswith(("embeddings.", "pre_layrnorm."))
        weight.requires_grad_(weight.requires_grad and (before or id(weight) in vision_parts))
